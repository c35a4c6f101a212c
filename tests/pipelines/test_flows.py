"""The Prefect flow on small repositories: one temporary server for all of them, since it takes seconds to start."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from uuid import UUID

import psutil
import pytest

BROKEN = """\
stages:
  first: {cmd: date > a, outs: [a]}
  bad: {cmd: seq 40; exit 3, deps: [a], outs: [b]}
  after: {cmd: cat b > c, deps: [b], outs: [c]}
  beside: {cmd: cat a > d, deps: [a], outs: [d]}
"""


@pytest.fixture(scope="module", autouse=True)
def server(prefect_home):
    from prefect.testing.utilities import prefect_test_harness

    # Prefect leaves sockets to the garbage collector.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning), prefect_test_harness():
        yield


@pytest.fixture
def flows():
    from pipelines import flows

    return flows


def what_prefect_has(flow_run_id: UUID, last_line: str) -> tuple[dict[str, str], list[str], list[dict[str, object]]]:
    """Return the task runs (name -> state), the logged lines and the artifact of a flow run, once all has arrived."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, LogFilter

    async def ask() -> tuple[dict[str, str], list[str], list[dict[str, object]]]:
        async with get_client() as client:
            only = FlowRunFilter(id={"any_": [flow_run_id]})
            runs = await client.read_task_runs(flow_run_filter=only)
            logs = await client.read_logs(LogFilter(flow_run_id={"any_": [flow_run_id]}))
            artifacts = await client.read_artifacts(artifact_filter=ArtifactFilter(), flow_run_filter=only)
            states = {run.name: str(run.state_name) for run in runs}
            return states, [log.message for log in logs], json.loads(str(artifacts[0].data))

    deadline = time.monotonic() + 20
    while True:
        states, lines, table = asyncio.run(ask())
        if len(states) == len(table) and "Running" not in states.values() and last_line in lines:
            return states, lines, table
        assert time.monotonic() < deadline, (states, lines)


def test_flow_leaves_what_dvc_repro_leaves(chain, project, dvc, flows):
    state = flows.reproduce([], return_state=True)
    assert {outcome.stage: outcome.status for outcome in state.result()} == {
        "first": "ran",
        "middle-toy@x": "ran",
        "middle-toy@y": "ran",
        "last": "ran",
    }
    ours = Path("dvc.lock").read_bytes()
    assert Path("c").read_text() == "oneone"
    again = dvc("repro", root=chain)
    assert again.returncode == 0
    assert again.stdout.count("didn't change, skipping") == 4
    assert Path("dvc.lock").read_bytes() == ours

    files = {name: Path(name).read_text() for name in ("dvc.yaml", "input", "params.yaml")}
    other = project(files, "serial")
    assert dvc("repro", root=other).returncode == 0
    assert (other / "dvc.lock").read_bytes() == ours

    states, lines, table = what_prefect_has(state.state_details.flow_run_id, "cell y")
    assert states == dict.fromkeys(["first", "middle-toy@x", "middle-toy@y", "last"], "Ran")
    assert "cell x" in lines
    assert [(row["stage"], row["status"]) for row in table][-1] == ("last", "ran")
    assert all(row["seconds"] > 0 for row in table)
    assert not list(Path(os.environ["PREFECT_HOME"]).glob("storage/*"))


def test_only_what_changed_runs(chain, dvc, flows):
    assert dvc("repro", root=chain).returncode == 0
    Path("input").write_text("one")  # other bytes, same output: nothing after the first stage has to run
    assert statuses(flows.run_flow([], False)) == ["ran", "skipped", "skipped", "skipped"]
    Path("params.yaml").write_text("rate: 0.5\n")
    assert statuses(flows.run_flow(["middle-toy@x"], False)) == ["skipped", "ran"]
    assert statuses(flows.run_flow(["first"], True)) == ["ran"]


def test_failed_stage_stops_what_reads_from_it(project, flows):
    project({"dvc.yaml": BROKEN})
    state = flows.reproduce([], return_state=True)
    assert state.is_failed()
    outcomes = {outcome.stage: outcome for outcome in state.result(raise_on_failure=False)}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "first": "ran",
        "bad": "failed",
        "after": "blocked",
        "beside": "ran",
    }
    assert outcomes["bad"].tail[-2] == "40"
    states, _, _ = what_prefect_has(state.state_details.flow_run_id, "40")
    assert states == {"first": "Ran", "bad": "Failed", "after": "Blocked", "beside": "Ran"}


def test_a_signal_stops_the_stage_and_leaves_the_project_usable(checkout, dvc):
    from prefect.settings import PREFECT_API_URL

    def pipeline(sleep: str) -> None:
        Path("dvc.yaml").write_text(
            f"stages: {{a: {{cmd: echo $$ > pid; echo started; {sleep}; date > b, outs: [b]}}}}"
        )

    pipeline("sleep 60")
    process = subprocess.Popen(
        [Path(sys.executable).parent / "assay", "run"],
        env=os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert [line for line in process.stdout if stop_when_started(line, process)]
    assert process.returncode == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(Path("pid").read_text()))
    assert not Path("b").exists()
    pipeline("true")
    assert dvc("repro", root=checkout).returncode == 0


def stop_when_started(line: str, process: subprocess.Popen[str]) -> bool:
    if not line.rstrip().endswith("| started"):
        return False
    process.terminate()
    return True


def statuses(outcomes):
    return [outcome.status for outcome in outcomes]
