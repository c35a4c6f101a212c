"""Carry out `assay run`: read the plan, show it, run it with or without Prefect, say what became of it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pipelines import server
from pipelines.display import Display
from pipelines.engine import Engine, Outcome
from pipelines.graph import Stage, affected, read_plan
from pipelines.repository import Repository
from pipelines.session import Prepared, Request, prepared
from pipelines.terminal import Silent, Terminal, failures, plan_lines, summary
from stages.common.errors import InputError

PREFECT = "install it: {python} -m pip install 'assay[prefect]', or give --no-prefect"


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


def _with_prefect(ready: Prepared, engine: Engine, request: Request, display: Display) -> list[Outcome]:
    check_prefect()
    if server.limits(tag for stage in ready.plan for tag in server.task_tags(stage.name)):
        # Then a stage may only begin when the server lets its task begin.
        from pipelines.flows import run_flow

        return run_flow(ready, request)
    display.begin(ready.root, {"parameters": request.parameters, "plan": plan_lines(ready.plan, request.force)})
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
