"""A run with a temporary Prefect server: shown as it was, not held up by it, and nothing of it left."""

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.display import Display
from pipelines.following import Following
from pipelines.terminal import Silent
from tests.pipelines.processes import PATIENCE, left, until

BIN = Path(sys.executable).parent
BROKEN = """\
stages:
  first: {cmd: echo hello from first && date > a, outs: [a]}
  bad: {cmd: seq 40; cat mended > b, deps: [a], outs: [b]}
  after: {cmd: cat b > c, deps: [b], outs: [c]}
  beside: {cmd: cat a > d, deps: [a], outs: [d]}
"""
ABOUT = json.dumps({"parameters": {"jobs": 2}, "plan": ["a"]})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for Prefect's database, and no server."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path / "prefect"


def test_a_temporary_server_has_all_of_a_run_when_it_ends_and_leaves_no_process(project, home):
    # A folder of the user's with the name of one of ours is no part of the run.
    root = project({"dvc.yaml": BROKEN, "pipelines/__init__.py": "raise SystemExit('not ours')"})
    said = assay("run", "--keep-going", "--jobs", "2")
    assert said.returncode == 1, said.stderr
    assert "bad failed: exit code 1" in said.stderr
    # It has no page.
    assert "Prefect shows" not in said.stdout
    with sqlite3.connect(home / "prefect.db") as database:
        (run,) = database.execute("SELECT id, name, state_type, state_name FROM flow_run").fetchall()
        assert run[1:] == ("reproduce everything", "FAILED", "Failed")
        tasks = database.execute("SELECT name, state_type FROM task_run WHERE flow_run_id = ?", run[:1]).fetchall()
        assert dict(tasks) == {"first": "COMPLETED", "bad": "FAILED", "beside": "COMPLETED"}
        lines = {line for (line,) in database.execute("SELECT message FROM log WHERE flow_run_id = ?", run[:1])}
        assert {"hello from first", "40", "cat: mended: No such file or directory"} <= lines
        artifacts = dict(database.execute("SELECT key, data FROM artifact").fetchall())
        assert "output deleted: b" in artifacts["plan"]
        results = json.loads(json.loads(artifacts["results"]))
        assert [row["status"] for row in results] == ["ran", "failed", "blocked", "ran"]
    database.close()
    assert left(root) == []


def test_a_run_does_not_fail_because_prefect_does(project, home, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    root = project({"dvc.yaml": "stages: {only: {cmd: date > now, outs: [now]}}"})
    said = assay("run")
    assert (said.returncode, said.stderr) == (0, "")
    log = root / ".dvc/tmp/assay/prefect.log"
    assert f"Prefect does not show this run; it said: {log}" in said.stdout
    assert said.stdout.endswith("1 ran\n")
    assert "error: Prefect's temporary server: ended with exit code" in log.read_text()
    assert "unable to open database file" in (root / ".dvc/tmp/assay/server.log").read_text()
    assert left(root) == []


@pytest.mark.parametrize("moment", ["follower", "uvicorn"])
def test_a_killed_run_leaves_no_prefect(project, home, moment):
    root = project({"dvc.yaml": "stages: {slow: {cmd: sleep 600, outs: [now]}}"})
    with subprocess.Popen([BIN / "assay", "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as engine:
        until(lambda: [each for each in left(root) if moment in each], f"{moment} runs")
        until(lambda: [each for each in left(root) if "sleep" in each], "the stage runs")
        engine.send_signal(signal.SIGKILL)
    until(lambda: not left(root), "nothing of it runs")


def test_what_ends_a_run_ends_prefect_with_it(project, home):
    root = project({"dvc.yaml": "stages: {slow: {cmd: sleep 600, outs: [now]}}"})
    with subprocess.Popen([BIN / "assay", "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as engine:
        until(lambda: [each for each in left(root) if "uvicorn" in each], "the server starts")
        until(lambda: [each for each in left(root) if "sleep" in each], "the stage runs")
        engine.terminate()
        assert engine.wait(PATIENCE) == 128 + signal.SIGTERM
    assert left(root) == []


def test_a_run_that_nobody_follows_keeps_no_messages() -> None:
    display = Display(Silent())
    display.started("a")
    display.line("a", "said")
    assert display._messages.empty()


def test_messages_become_stages_that_tasks_live_through() -> None:
    outcome = {"stage": "a", "status": "ran", "seconds": 1.5, "code": 0}
    messages = [
        {"started": "a"},
        {"line": "a", "text": "one"},
        {"started": "b"},
        {"started": "a"},
        {"line": "a", "text": "two"},
        {"ended": "a", "failed": ""},
        {"ended": "never begun", "failed": "blocked"},
        {"line": "never begun", "text": "lost"},
        {"ended": "b", "failed": "exit code 3"},
        {"outcomes": [outcome]},
    ]
    following = Following([ABOUT, *map(json.dumps, messages)], has_page=False)
    assert (following.parameters, following.plan, following.outcomes) == ({"jobs": 2}, ["a"], None)
    stages = list(following.stages())
    lived = []
    for stage in stages:
        lines: list[str] = []
        lived.append((stage.name, stage.follow(lines.append), lines))
    assert lived == [("a", "failed, and is tried again", ["one"]), ("b", "exit code 3", []), ("a", "", ["two"])]
    assert following.outcomes is not None
    assert following.outcomes[0].seconds == 1.5


def test_a_run_that_was_broken_off_leaves_no_stage_without_an_end() -> None:
    following = Following([ABOUT, json.dumps({"started": "a"})], has_page=False)
    (stage,) = following.stages()
    assert stage.follow(print) == "the run was broken off"
    assert following.outcomes is None


def assay(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "assay", *arguments], capture_output=True, text=True, timeout=2 * PATIENCE)
