"""The real Prefect server: deployments, a schedule, a run that is cancelled, and its stage dead; runs that it shows."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
import pytest

from tests.pipelines.processes import PATIENCE, left, until

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """A server of its own, up, and the environment that leads to it."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    variables = {"PREFECT_HOME": str(folder), "PREFECT_API_URL": address}
    # The schedule is looked at soon, not once a minute.
    variables["PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS"] = "2"
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, folder, variables), httpx.Client(base_url=address) as client:
        until(lambda: answers(client), "the server answers")
        yield client, variables


@pytest.fixture
def api(server: tuple[httpx.Client, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """The server, as what Prefect's settings name."""
    client, variables = server
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return client


@contextmanager
def started(command: list[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Run a process, and end it with all it started."""
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | variables
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


def create_run(api: httpx.Client, deployment: str) -> str | None:
    answer = api.post(f"/deployments/{deployment}/create_flow_run", json={})
    # What it answers while its database is busy; Prefect's own client asks again then, too.
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return None
    created: str = answer.raise_for_status().json()["id"]
    return created


def deployments(api: httpx.Client) -> dict[str, str]:
    return {each["name"]: each["id"] for each in api.post("/deployments/filter", json={}).raise_for_status().json()}


def test_a_served_run_is_scheduled_and_cancelling_kills_its_stage(project, api):
    root = project({"dvc.yaml": SLOW})
    with started([str(BIN / "assay"), "serve", "--nightly", "0 2 * * *", "--jobs", "2"], root):
        until(lambda: runs(api, "nightly", "SCHEDULED"), "the nightly run is scheduled")
        # They are registered one after the other, this one last.
        until(lambda: "toy" in deployments(api), "all deployments are registered")
        assert set(deployments(api)) == {"nightly", "everything", "toy"}

        toy = deployments(api)["toy"]
        run = until(lambda: create_run(api, toy), "the server has time to create a run")
        until((root / "started").exists, "the slow stage runs")
        assert left(root)
        api.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
        until(lambda: not left(root), "the stage is dead")
        until(lambda: api.get(f"/flow_runs/{run}").json()["state"]["type"] == "CANCELLED", "the run is cancelled")
    # What was finished before is kept.
    lock = (root / "dvc.lock").read_text()
    assert "quick-toy" in lock
    assert "slow-toy" not in lock


ITEMS = """\
stages:
  item:
    matrix: {i: [0, 1, 2, 3]}
    cmd: echo begin >> "$DVC_ROOT/noted" && echo hello ${item.i} && sleep 1 && echo end >> "$DVC_ROOT/noted" &&
      echo ${item.i} > out-${item.i}
    outs: ["out-${item.i}"]
"""


def test_a_run_is_shown_with_its_tags_while_its_stages_run_at_once(project, api):
    root = project({"dvc.yaml": ITEMS})
    said = assay(root, "run", "--jobs", "4")
    assert (root / "noted").read_text().split() == ["begin"] * 4 + ["end"] * 4
    (run,) = until(lambda: flow_runs(api, said), "the run is there")
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "4 ran")
    assert "assay" in run["tags"]
    assert run["parameters"]["jobs"] == 4
    tasks = until(lambda: done(tasks_of(api, run)), "all tasks have ended")
    assert sorted(task["name"] for task in tasks) == [f"item@{number}" for number in range(4)]
    assert all({"assay", "item"} <= set(task["tags"]) for task in tasks)
    logged = until(lambda: [line for line in lines_of(api, run) if line.startswith("hello")], "lines are logged")
    assert sorted(logged) == [f"hello {number}" for number in range(4)]


def test_a_limit_of_the_server_holds_the_stages_themselves(project, api):
    root = project({"dvc.yaml": ITEMS})
    limit = {"tag": "item", "concurrency_limit": 1}
    until(lambda: api.post("/concurrency_limits/", json=limit).is_success, "the server has time to take a limit")
    try:
        assay(root, "run", "--jobs", "4")
    finally:
        until(lambda: api.delete("/concurrency_limits/tag/item").is_success, "the server has time to drop it")
    assert (root / "noted").read_text().split() == ["begin", "end"] * 4
    assert sorted(path.name for path in root.glob("out-*")) == [f"out-{number}" for number in range(4)]


def test_a_server_that_does_not_answer_is_said_before_anything_runs(project, monkeypatch):
    root = project({"dvc.yaml": ITEMS})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free.getsockname()[1]}/api")
        said = subprocess.run([BIN / "assay", "run"], cwd=root, capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert said.stderr.startswith("error: PREFECT_API_URL: no Prefect server answers at http://127.0.0.1:")
    assert "`prefect server start`" in said.stderr
    assert "--no-prefect" in said.stderr
    assert not (root / "noted").exists()


def assay(root: Path, *arguments: str) -> str:
    said = subprocess.run([BIN / "assay", *arguments], cwd=root, capture_output=True, text=True, timeout=PATIENCE)
    assert said.returncode == 0, said.stderr
    return said.stdout


def flow_runs(api: httpx.Client, said: str) -> list[dict[str, Any]]:
    """Return the run whose page a command named."""
    (line,) = [line for line in said.splitlines() if line.startswith("Prefect shows this run: ")]
    body = {"flow_runs": {"id": {"any_": [line.rpartition("/")[2]]}}}
    found: list[dict[str, Any]] = api.post("/flow_runs/filter", json=body).raise_for_status().json()
    return found


def tasks_of(api: httpx.Client, run: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    found: list[dict[str, Any]] = api.post("/task_runs/filter", json=body).raise_for_status().json()
    return found


def done(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return tasks if all(task["state"]["type"] == "COMPLETED" for task in tasks) else []


def lines_of(api: httpx.Client, run: dict[str, Any]) -> list[str]:
    body = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    return [line["message"] for line in api.post("/logs/filter", json=body).raise_for_status().json()]
