"""The Prefect flows: `reproduce` runs DVC's graph, one task per stage that runs; `nightly` compares after it.

The engine does the work. DVC decides what runs and keeps the record. Prefect schedules, shows, limits and
cancels: its own caching is off and no result is stored.

A task either runs its stage, once the server's limits let it, or follows one that the engine has begun:
`pipelines/display.py` says why.
"""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, serve, tags, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.types.entrypoint import EntrypointType

from pipelines import git
from pipelines.engine import Outcome
from pipelines.following import Following
from pipelines.runner import Job, Result, Runner
from pipelines.server import TAG, task_tags
from pipelines.session import Prepared, Request, prepared
from pipelines.terminal import plan_lines, summary

RESULTS = "results"
PLAN = "plan"
METRICS = "metrics"
REPORT = "report"
# How long the end of a run waits for the server to write the states of its tasks.
PATIENCE = 10.0
# What the command line has prepared already; what it has begun already.
_PREPARED: ContextVar[Prepared | None] = ContextVar("prepared", default=None)
_FOLLOWING: ContextVar[Following | None] = ContextVar("following", default=None)
# What a task does, by the number that it is given: gives lines to a log, returns why the stage failed or nothing.
_ATTEMPTS: dict[int, Callable[[Callable[[str], None]], str]] = {}
_NUMBERS = itertools.count()


def _run_name() -> str:
    targets = flow_run.parameters.get("targets") or ["everything"]
    return f"reproduce {' '.join(targets)}"


@flow(name="reproduce", flow_run_name=_run_name, persist_result=False)
def reproduce(
    targets: list[str] | None = None,
    jobs: int | None = None,
    force: bool = False,
    keep_going: bool = False,
    pull: bool = False,
    report: str | None = None,
) -> State[list[Outcome]]:
    """Reproduce targets and what they read from; the state holds one outcome per stage.

    Args:
        targets: What `assay run` takes; everything if not given.
        jobs: Stages at once; as many as cores if not given.
        force: Run stages that are up to date, too.
        keep_going: After a failure, run all that does not depend on it.
        pull: Fetch missing data and results from the DVC remote.
        report: Address of a page that shows the results, linked from the run.
    """
    if following := _FOLLOWING.get():
        return _follow(following, report)
    if ready := _PREPARED.get():
        return _run(ready, force, report)
    request = Request(targets or (), jobs, force, keep_going, pull)
    with prepared(request, _Logged()) as ready:
        return _run(ready, force, report)


@flow(name="nightly", persist_result=False)
def nightly(jobs: int | None = None, since: str | None = None) -> State[Any]:
    """Reproduce everything, then show how the metrics differ from those of a revision: the last tag, if not given."""
    state: State[Any] = reproduce(jobs=jobs, keep_going=True, return_state=True)
    revision = since or git.ask("describe", "--tags", "--abbrev=0")
    shown = _metrics_diff(revision) if revision else "There is no tag to compare with."
    create_markdown_artifact(f"Metrics since `{revision}`\n\n{shown}", key=METRICS)
    return state


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(name: str, attempt: int) -> State[None]:  # noqa: ARG001 - its name is the run's
    """Run the commands of one stage, or follow them; their output is the task's log."""
    reason = _ATTEMPTS.pop(attempt)(get_run_logger().info)
    return Failed(message=reason) if reason else Completed()


def run_flow(ready: Prepared, request: Request) -> list[Outcome]:
    """Run what is prepared as the flow and return its outcomes, also when stages failed."""
    token = _PREPARED.set(ready)
    try:
        with tags(TAG):
            state = reproduce(**request.parameters, return_state=True)
        outcomes: list[Outcome] = _result(state)
        return outcomes
    finally:
        _PREPARED.reset(token)


def follow(following: Following) -> None:
    """Show what another process runs as the flow; wait until the server has it all."""
    _FOLLOWING.set(following)
    with tags(TAG):
        state = reproduce(**following.parameters, return_state=True)
    if not following.has_page:
        # It ends with this process, and what becomes of tasks is sent and written late.
        _until_written(state.state_details.flow_run_id, following.begun)


def serve_deployments(studies: Sequence[str], nightly_at: str, jobs: int | None, report: str | None) -> None:
    """Register the deployments on the Prefect server and run what it schedules, until stopped.

    Args:
        studies: One deployment each, without a schedule.
        nightly_at: Schedule of the nightly run, as cron takes it.
        jobs: Stages at once.
        report: Address of the page that shows the results.
    """
    module = EntrypointType.MODULE_PATH
    deployments: list[Any] = [
        nightly.to_deployment(
            "nightly", cron=nightly_at, parameters={"jobs": jobs}, tags=["assay"], entrypoint_type=module
        ),
        *(
            reproduce.to_deployment(
                name,
                parameters={"targets": targets, "jobs": jobs, "report": report},
                tags=["assay"],
                entrypoint_type=module,
            )
            for name, targets in [("everything", None), *((study, [study]) for study in studies)]
        ),
    ]
    # One at a time: a second engine in the repository would be refused.
    serve(*deployments, limit=1)


def _run(ready: Prepared, force: bool, report: str | None) -> State[list[Outcome]]:
    if ready.engine is None:
        outcomes = [Outcome(stage.name, "skipped") for stage in ready.plan]
        return Completed(message=f"nothing to do: {len(outcomes)} stages are up to date", data=outcomes)
    _show_plan(plan_lines(ready.plan, force))
    return _conclude(ready.engine.run(_as_tasks(ready.engine.runner)), report)


def _follow(following: Following, report: str | None) -> State[list[Outcome]]:
    if following.has_page:
        print(f"Prefect shows this run: {flow_run.ui_url}", flush=True)
    _show_plan(following.plan)
    tasks = [_submit(stage.name, stage.follow) for stage in following.stages()]
    # Their states are sent by then.
    wait(tasks)
    if following.outcomes is None:
        return Failed(message="the run was broken off", data=[])
    return _conclude(following.outcomes, report)


def _show_plan(lines: Sequence[str]) -> None:
    create_markdown_artifact("\n".join(f"    {line}" for line in lines), key=PLAN)


def _conclude(outcomes: Sequence[Outcome], report: str | None) -> State[list[Outcome]]:
    table = [{key: str(value) for key, value in asdict(outcome).items() if key != "tail"} for outcome in outcomes]
    create_table_artifact(table, key=RESULTS, description=summary(outcomes))
    if report:
        create_link_artifact(report, link_text="report", key=REPORT)
    if any(outcome.status in ("failed", "stopped") for outcome in outcomes):
        return Failed(message=summary(outcomes), data=list(outcomes))
    return Completed(message=summary(outcomes), data=list(outcomes))


def _submit(name: str, attempt: Callable[[Callable[[str], None]], str]) -> PrefectFuture[Any]:
    number = next(_NUMBERS)
    _ATTEMPTS[number] = attempt
    return run_stage.with_options(tags=task_tags(name)).submit(name, number)


def _as_tasks(runner: Runner) -> Callable[..., PrefectFuture[Any]]:
    def submit(
        job: Job, on_line: Callable[[str], None], on_end: Callable[[Result | BaseException], None]
    ) -> PrefectFuture[Any]:
        results: list[Result | BaseException] = []

        def attempt(log: Callable[[str], None]) -> str:
            def line(text: str) -> None:
                log(text)
                on_line(text)

            try:
                result = runner.run(job, line)
            except BaseException as error:
                results.append(error)
                raise
            results.append(result)
            return f"exit code {result.code}; all of its output: {job.log}" if result.code else ""

        future = _submit(job.name, attempt)
        # Prefect's future knows its state later than it calls back; a task cancelled early leaves no result.
        cancelled = RuntimeError("Prefect ended its task before it ran")
        future.add_done_callback(lambda _: on_end(results[0] if results else cancelled))
        return future

    return submit


def _until_written(run: UUID | None, count: int) -> None:
    end = time.monotonic() + PATIENCE
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
            if sum(bool(task.state and task.state.is_final()) for task in tasks) == count:
                return
            time.sleep(0.1)


def _result(state: State[Any]) -> Any:
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def _metrics_diff(revision: str) -> str:
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--md", revision]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() or said.stderr.strip() or "No metric differs."


class _Logged:
    """Writes what the engine says to the flow's log; the tasks' own logs say the rest."""

    def started(self, stage: str) -> None: ...
    def line(self, stage: str, text: str) -> None: ...
    def ended(self, outcome: Outcome) -> None: ...

    def says(self, text: str) -> None:
        get_run_logger().info(text)
