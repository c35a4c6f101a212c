"""One run in one repository: what is asked for, and the plan and engine that come of it."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cluster import Cluster
from pipelines.engine import Engine, Observer, Options
from pipelines.graph import Selection, Stage, affected, read_plan
from pipelines.recovery import recover, sweep
from pipelines.repository import Repository
from pipelines.resources import Budget, cores
from pipelines.watchdog import kill_leftovers
from pipelines.workplace import Workplace


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

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the flow `reproduce` that ask for the same."""
        names = ("jobs", "force", "keep_going", "pull")
        return {name: getattr(self, name) for name in names} | {"targets": list(self.targets)}


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
