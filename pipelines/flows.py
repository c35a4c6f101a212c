"""The Prefect flow that runs DVC's graph: one task per stage that runs; the engine does the work.

DVC decides what runs and keeps the record. Prefect schedules, shows and cancels: its own caching is off
and no result is stored.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from pipelines.engine import Engine, Options, Outcome
from pipelines.graph import Selection, Stage, read_plan
from pipelines.repository import Repository
from pipelines.resources import Budget, cores
from pipelines.runner import Job, Result, Runner
from pipelines.terminal import plan_lines, summary

ARTIFACT = "reproduce"
PLAN = "plan"
# The engine that the command line has made already, and the jobs of the running flow by stage.
_PREPARED: ContextVar[tuple[Engine, list[Stage]] | None] = ContextVar("prepared", default=None)
_JOBS: dict[str, tuple[Runner, Job, Callable[[str], None]]] = {}
_RESULTS: dict[str, Result] = {}


@flow(name="reproduce", persist_result=False, flow_run_name="reproduce {targets}")
def reproduce(
    targets: list[str] | None = None,
    jobs: int | None = None,
    force: bool = False,
    keep_going: bool = False,
    pull: bool = False,
) -> State[list[Outcome]]:
    """Reproduce targets and what they read from; the state holds one outcome per stage."""
    if prepared := _PREPARED.get():
        return _run(*prepared, force)
    with Repository(Path.cwd(), get_run_logger().info) as repository:
        plan = read_plan(repository, Selection(targets or ()))
        budget = Budget.of_machine(jobs or cores())
        options = Options(force=force, keep_going=keep_going, pull=pull)
        return _run(Engine(repository, plan, budget, _Quiet(), options), plan, force)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(name: str) -> State[Result]:
    """Run the commands of one stage; its output is the task's log."""
    runner, job, on_line = _JOBS[name]
    logger = get_run_logger()

    def log(line: str) -> None:
        logger.info(line)
        on_line(line)

    result = _RESULTS[name] = runner.run(job, log)
    if result.code:
        return Failed(message=f"exit code {result.code}; all of its output: {job.log}", data=result)
    return Completed(data=result)


def run_flow(engine: Engine, plan: list[Stage], **parameters: Any) -> list[Outcome]:
    """Run a prepared engine as the flow and return its outcomes, also when stages failed."""
    token = _PREPARED.set((engine, plan))
    try:
        outcomes: list[Outcome] = _result(reproduce(**parameters, return_state=True))
        return outcomes
    finally:
        _PREPARED.reset(token)


def _run(engine: Engine, plan: list[Stage], force: bool) -> State[list[Outcome]]:
    create_markdown_artifact("\n".join(plan_lines(plan, force)) or "nothing to do", key=PLAN)
    outcomes = engine.run(_as_tasks(engine.runner))
    table = [{key: str(value) for key, value in asdict(outcome).items() if key != "tail"} for outcome in outcomes]
    create_table_artifact(table, key=ARTIFACT, description=summary(outcomes))
    if any(outcome.status in ("failed", "stopped") for outcome in outcomes):
        return Failed(message=summary(outcomes), data=outcomes)
    return Completed(message=summary(outcomes), data=outcomes)


def _as_tasks(runner: Runner) -> Callable[..., PrefectFuture[Any]]:
    def submit(
        job: Job, on_line: Callable[[str], None], on_end: Callable[[Result | BaseException], None]
    ) -> PrefectFuture[Any]:
        _JOBS[job.name] = runner, job, on_line
        future = run_stage.submit(job.name)
        # Prefect's future knows its state later than it calls back; a task cancelled early leaves no result.
        future.add_done_callback(
            lambda _: on_end(_RESULTS.pop(job.name, RuntimeError("Prefect ended its task before it ran")))
        )
        return future

    return submit


def _result(state: State[Any]) -> Any:
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


class _Quiet:
    """Shows nothing: the flow's and the tasks' logs say it."""

    def started(self, stage: str) -> None: ...
    def line(self, stage: str, text: str) -> None: ...
    def ended(self, outcome: Outcome) -> None: ...
    def says(self, text: str) -> None: ...
