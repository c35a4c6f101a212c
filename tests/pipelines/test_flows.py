"""The Prefect flows on small repositories: one temporary server for all, since it takes seconds to start."""

import asyncio
import json
import os
import re
import subprocess
import time
import warnings
from pathlib import Path
from uuid import UUID

import pytest

Shown = tuple[dict[str, str], list[str], dict[str, str]]

BROKEN = """\
stages:
  first: {cmd: echo hello from first && date > a, outs: [a]}
  bad: {cmd: seq 40; cat mended > b, deps: [a], outs: [b]}
  after: {cmd: cat b > c, deps: [b], outs: [c]}
  beside: {cmd: cat a > d, deps: [a], outs: [d]}
"""


@pytest.fixture(scope="module")
def flows(prefect_home):
    from prefect.testing.utilities import prefect_test_harness

    from pipelines import flows

    # Prefect leaves sockets to the garbage collector.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning), prefect_test_harness():
        yield flows


def what_prefect_has(run: UUID, keys: set[str], last_line: str = "") -> Shown:
    """Return a flow run's tasks (name -> state), logged lines and artifacts (key -> data), once all has arrived."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, LogFilter

    async def ask() -> Shown:
        async with get_client() as client:
            only = FlowRunFilter(id={"any_": [run]})
            runs = await client.read_task_runs(flow_run_filter=only)
            logs = await client.read_logs(LogFilter(flow_run_id={"any_": [run]}))
            artifacts = await client.read_artifacts(flow_run_filter=only)
            states = {run.name: str(run.state_name) for run in runs}
            return states, [log.message for log in logs], {str(each.key): str(each.data) for each in artifacts}

    deadline = time.monotonic() + 20
    while True:
        states, lines, artifacts = asyncio.run(ask())
        arrived = keys <= set(artifacts) and last_line in [*lines, ""]
        if arrived and not {"Pending", "Running"} & set(states.values()):
            return states, lines, artifacts
        assert time.monotonic() < deadline, (states, lines, artifacts)


def test_a_flow_has_a_task_for_each_stage_that_runs_and_its_state_holds_all_outcomes(project, flows):
    project({"dvc.yaml": BROKEN})
    state = flows.reproduce(keep_going=True, jobs=2, report="http://localhost/report.html", return_state=True)
    assert state.is_failed()
    assert state.message == "2 ran, 1 failed, 1 blocked"
    outcomes = {outcome.stage: outcome for outcome in state.result(raise_on_failure=False)}
    statuses = {name: outcome.status for name, outcome in outcomes.items()}
    assert statuses == {"first": "ran", "bad": "failed", "after": "blocked", "beside": "ran"}
    assert outcomes["bad"].tail[-2:] == ("40", "cat: mended: No such file or directory")

    tasks, lines, artifacts = what_prefect_has(state.state_details.flow_run_id, {"plan", "results", "report"}, "40")
    assert tasks == {"first": "Completed", "bad": "Failed", "beside": "Completed"}
    assert "hello from first" in lines
    table = json.loads(artifacts["results"])
    assert [(row["stage"], row["status"]) for row in table] == list(statuses.items())
    assert table[1]["reason"] == "exit code 1"
    assert "    bad\n      dependency deleted: a\n      output deleted: b" in artifacts["plan"]
    assert "http://localhost/report.html" in artifacts["report"]
    assert not list(Path(os.environ["PREFECT_HOME"]).glob("storage/*"))

    Path("mended").write_text("now")
    state = flows.reproduce(["after"], return_state=True)
    assert state.is_completed()
    assert [(outcome.stage, outcome.status) for outcome in state.result()] == [
        ("first", "skipped"),
        ("bad", "ran"),
        ("after", "ran"),
    ]
    tasks, _, artifacts = what_prefect_has(state.state_details.flow_run_id, {"plan", "results"}, "40")
    assert tasks == {"bad": "Completed", "after": "Completed"}
    assert "first" not in artifacts["plan"]

    state = flows.reproduce(return_state=True)
    assert (state.is_completed(), state.message) == (True, "nothing to do: 4 stages are up to date")
    assert {outcome.status for outcome in state.result()} == {"skipped"}


def test_the_nightly_flow_shows_how_metrics_differ_from_those_of_the_last_tag(project, flows):
    stage = "{cmd: cp number score.json, deps: [number], metrics: [score.json: {cache: false}]}"
    project({"dvc.yaml": f"stages: {{score: {stage}}}", "number": '{"accuracy": 0.5}'})
    state = flows.nightly(return_state=True)
    assert state.is_completed()
    _, _, artifacts = what_prefect_has(state.state_details.flow_run_id, {"metrics"})
    assert artifacts["metrics"].endswith("There is no tag to compare with.")

    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    Path("number").write_text('{"accuracy": 0.75}')
    state = flows.nightly(return_state=True)
    _, _, artifacts = what_prefect_has(state.state_details.flow_run_id, {"metrics"})
    assert "Metrics since `v1`" in artifacts["metrics"]
    assert re.search(r"accuracy +\| +0\.5 +\| +0\.75 +\| +0\.25", artifacts["metrics"])

    Path("number").unlink()
    assert flows.nightly(return_state=True).is_failed()
