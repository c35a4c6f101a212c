"""The real Prefect server: deployments, a schedule, a run that is cancelled, and its stage dead."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pipelines.watchdog import MARK

BIN = Path(sys.executable).parent
SLOW = """\
stages:
  quick-toy:
    cmd: echo quick > quick
    outs: [quick]
  slow-toy:
    cmd: echo started > started && sleep 600 && cat quick > slow
    deps: [quick]
    outs: [slow]
"""
PATIENCE = 90


def until(found: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.3)
    pytest.fail(f"after {PATIENCE} s still not: {what}")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A server of its own, up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    # The schedule is looked at soon, not once a minute.
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "2")
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, tmp_path), httpx.Client(base_url=f"http://127.0.0.1:{port}/api") as client:
        until(lambda: answers(client), "the server answers")
        yield client


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[None]:
    """Run a process, and end it with all it started."""
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    process = psutil.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        everything = [*process.children(recursive=True), process]
        process.terminate()
        _, alive = psutil.wait_procs(everything, timeout=10)
        for each in alive:
            each.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def runs(api: httpx.Client, deployment: str, *states: str) -> list[dict[str, Any]]:
    body = {
        "deployments": {"name": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": list(states)}}},
    }
    found: list[dict[str, Any]] = api.post("/flow_runs/filter", json=body).raise_for_status().json()
    return found


def deployments(api: httpx.Client) -> dict[str, str]:
    return {each["name"]: each["id"] for each in api.post("/deployments/filter", json={}).raise_for_status().json()}


def of_stages(root: Path) -> list[int]:
    def mark(process: psutil.Process) -> str | None:
        try:
            return process.environ().get(MARK)
        except psutil.Error:
            return None

    return [process.pid for process in psutil.process_iter() if mark(process) == str(root.resolve())]


def test_a_served_run_is_scheduled_and_cancelling_kills_its_stage(project, api):
    root = project({"dvc.yaml": SLOW})
    with started([str(BIN / "assay"), "serve", "--nightly", "0 2 * * *", "--jobs", "2"], root):
        until(lambda: runs(api, "nightly", "SCHEDULED"), "the nightly run is scheduled")
        # They are registered one after the other, this one last.
        until(lambda: "toy" in deployments(api), "all deployments are registered")
        assert set(deployments(api)) == {"nightly", "everything", "toy"}

        toy = deployments(api)["toy"]
        run = api.post(f"/deployments/{toy}/create_flow_run", json={}).raise_for_status().json()["id"]
        until((root / "started").exists, "the slow stage runs")
        assert of_stages(root)
        api.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
        until(lambda: not of_stages(root), "the stage is dead")
        until(lambda: api.get(f"/flow_runs/{run}").json()["state"]["type"] == "CANCELLED", "the run is cancelled")
    # What was finished before is kept.
    lock = (root / "dvc.lock").read_text()
    assert "quick-toy" in lock
    assert "slow-toy" not in lock
