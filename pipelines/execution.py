"""Carry out `assay run`: read the plan, show it, run it with or without Prefect, say what became of it."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines import server
from pipelines.cluster import Cluster
from pipelines.committer import recover, sweep
from pipelines.display import Display
from pipelines.engine import Engine, Observer, Options, Outcome
from pipelines.graph import Selection, Stage, affected, read_plan
from pipelines.repository import Repository
from pipelines.resources import Budget, cores
from pipelines.terminal import Silent, Terminal, failures, plan_lines, summary
from pipelines.watchdog import kill_leftovers
from pipelines.workplace import Workplace
from stages.common.errors import InputError

TAG = "assay"
PREFECT = "install it: {python} -m pip install 'assay[prefect]', or give --no-prefect"


@dataclass(frozen=True)
class Request:
    """What a person asks for: the options of `assay run`; `ray` is the address of a cluster."""

    targets: Sequence[str] = ()
    jobs: int | None = None
    force: bool = False
    keep_going: bool = False
    pull: bool = False
    single_item: bool = False
    downstream: bool = False
    ray: str | None = None

    @property
    def selection(self) -> Selection:
        """What to visit."""
        return Selection(self.targets, self.single_item, self.downstream)


@dataclass(frozen=True)
class Prepared:
    """A plan for the repository at `root`, and the engine to run it with; None where nothing is to be done."""

    root: Path
    plan: list[Stage]
    engine: Engine | None


@contextmanager
def prepared(request: Request, observer: Observer) -> Iterator[Prepared]:
    """Be the only engine in the repository around the current folder, mend what a killed one left, read the plan."""
    with Repository(Path.cwd(), observer.says) as repository:
        workplace = Workplace(repository.root)
        with workplace.alone():
            if killed := kill_leftovers(repository.root):
                observer.says(f"ended {len(killed)} processes that a killed run left behind")
            if kept := recover(repository, workplace):
                observer.says(f"recorded what a killed run had finished: {', '.join(kept)}")
            plan = read_plan(repository, request.selection)
            sweep(repository)
            if not request.force and not affected(plan):
                yield Prepared(repository.root, plan, None)
                return
            options = Options(request.force, request.keep_going, request.pull)
            if request.ray is None:
                budget = Budget.of_machine(request.jobs or cores())
                yield Prepared(repository.root, plan, Engine(repository, plan, budget, observer, options))
                return
            with closing(Cluster(repository, request.ray)) as cluster:
                budget = cluster.budget(request.jobs)
                yield Prepared(repository.root, plan, Engine(repository, plan, budget, observer, options, cluster))


def run(request: Request, dry_run: bool, prefect: bool, as_json: bool) -> int:
    """Run what a person asks for in the repository around the current folder; return the exit status."""
    with Silent() if as_json else Terminal() as terminal:
        if dry_run:
            with Repository(Path.cwd(), terminal.says) as repository:
                _show_plan(read_plan(repository, request.selection), request.force, as_json)
            return 0
        display = Display(terminal)
        with prepared(request, display) as ready:
            if ready.engine is None:
                outcomes = [Outcome(stage.name, "skipped") for stage in ready.plan]
            elif prefect:
                outcomes = _with_prefect(ready, ready.engine, request, display)
            else:
                outcomes = ready.engine.run()
    _show(outcomes, as_json)
    return int(any(outcome.status in ("failed", "blocked", "stopped") for outcome in outcomes))


def check_prefect() -> None:
    """Raise InputError if Prefect is not installed: it is an extra."""
    if find_spec("prefect") is None:
        raise InputError("prefect", "not installed", PREFECT.format(python=sys.executable))


def task_tags(stage: str) -> list[str]:
    """Return the tags of a stage's Prefect task: its group, by which a server can limit it, and that of all."""
    return [TAG, stage.rpartition(":")[2].partition("@")[0]]


def parameters(request: Request) -> dict[str, Any]:
    """Return the parameters of the flow `reproduce` that ask for the same."""
    asked = asdict(request)
    return {name: asked[name] for name in ("jobs", "force", "keep_going", "pull")} | {"targets": list(request.targets)}


def _with_prefect(ready: Prepared, engine: Engine, request: Request, display: Display) -> list[Outcome]:
    check_prefect()
    if server.limits(tag for stage in ready.plan for tag in task_tags(stage.name)):
        # Then a stage may only begin when the server lets its task begin.
        from pipelines.flows import run_flow

        return run_flow(ready, request)
    display.begin(ready.root, {"parameters": parameters(request), "plan": plan_lines(ready.plan, request.force)})
    outcomes = None
    try:
        outcomes = engine.run()
    finally:
        display.end(outcomes)
    return outcomes


def _show_plan(plan: Sequence[Stage], force: bool, as_json: bool) -> None:
    names = [stage.name for stage in plan] if force else affected(plan)
    if as_json:
        stale = [stage for stage in plan if stage.name in set(names)]
        print(json.dumps([{"stage": s.name, "changes": s.changes, "upstream": s.upstream} for s in stale], indent=2))
        return
    print(*plan_lines(plan, force), sep="\n", end="\n" if names else "")
    print(f"{len(names)} of {len(plan)} stages would run" if names else _nothing(len(plan)))


def _show(outcomes: Sequence[Outcome], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2, default=str))
        return
    if all(outcome.status == "skipped" for outcome in outcomes):
        print(_nothing(len(outcomes)))
        return
    if lines := failures(outcomes):
        print(*lines, sep="\n", file=sys.stderr)
    print(summary(outcomes))


def _nothing(count: int) -> str:
    return f"nothing to do: {count} stages are up to date"
