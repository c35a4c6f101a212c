"""The Prefect flow that reproduces DVC's graph: one task per stage, in the order of `dvc repro`.

DVC decides what runs and keeps the record. Prefect shows it: its own caching is off and no result is
stored.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipelines.graph import Stage, read_plan
from pipelines.runner import Outcome, Status, run_stage

ARTIFACT = "reproduce"


@flow(name="reproduce", persist_result=False)
def reproduce(targets: list[str], force: bool = False) -> State[list[Outcome]]:
    """Reproduce targets and what they read from; the state holds one outcome per stage.

    A failed stage stops what reads from it; the rest goes on, and the flow fails at its end.
    """
    done: dict[str, Outcome] = {}
    for stage in read_plan(targets):
        done[stage.name] = _result(reproduce_stage(stage.name, _decide(stage, done, force), force, return_state=True))
    outcomes = list(done.values())
    create_table_artifact(_table(outcomes), key=ARTIFACT, description=_summary(outcomes))
    if any(outcome.status == "failed" for outcome in outcomes):
        return Failed(message=_summary(outcomes), data=outcomes)
    return Completed(message=_summary(outcomes), data=outcomes)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def reproduce_stage(name: str, decision: Status | None, force: bool) -> State[Outcome]:
    """Run one stage unless it is already decided what becomes of it."""
    outcome = Outcome(name, decision) if decision else run_stage(name, force, get_run_logger().info)
    if outcome.status == "failed":
        return Failed(message=f"{name}: see its last lines above", data=outcome)
    if outcome.status == "blocked":
        return Cancelled(name="Blocked", message="a stage it reads from failed", data=outcome)
    return Completed(name=outcome.status.capitalize(), data=outcome)


def run_flow(targets: list[str], force: bool) -> list[Outcome]:
    """Run the flow and return its outcomes, also when stages failed."""
    outcomes: list[Outcome] = _result(reproduce(targets, force, return_state=True))
    return outcomes


def _result(state: State[Any]) -> Any:
    result = state.result(raise_on_failure=False)
    if isinstance(result, Exception):
        raise result
    return result


def _decide(stage: Stage, done: Mapping[str, Outcome], force: bool) -> Status | None:
    # None: let DVC look, which runs the stage or finds that its upstream came out as before.
    upstream = {done[name].status for name in stage.upstream}
    if upstream & {"failed", "blocked"}:
        return "blocked"
    if force or stage.changes or upstream & {"ran", "restored"}:
        return None
    return "skipped"


def _table(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(outcome).items() if key != "tail"} for outcome in outcomes]


def _summary(outcomes: list[Outcome]) -> str:
    statuses = [outcome.status for outcome in outcomes]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
