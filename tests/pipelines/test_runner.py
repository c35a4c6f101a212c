import subprocess
import time
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo

from pipelines import runner

SLOW = """\
stages:
  slow:
    cmd: echo $$ > pid && echo started && {sleep} && date > done
    outs: [done]
"""


def test_statuses(chain):
    lines: list[str] = []
    outcome = runner.run_stage("first", False, lines.append)
    assert (outcome.stage, outcome.status, Path("a").read_text()) == ("first", "ran", "one")
    assert outcome.seconds > 0
    assert lines == list(outcome.tail)
    assert lines[0] == "Running stage 'first':"
    assert not [line for line in lines if "git" in line]
    assert runner.run_stage("first", False, print).status == "skipped"
    assert runner.run_stage("first", True, print).status == "ran"
    Path("input").write_text("two")
    assert runner.run_stage("first", False, print).status == "ran"
    Path("input").write_text("one\n")
    assert runner.run_stage("first", False, print).status == "restored"
    assert Path("a").read_text() == "one"


def test_failure_keeps_the_last_twenty_lines(project):
    project({"dvc.yaml": "stages:\n  bad: {cmd: seq 40; exit 3, outs: [x]}\n"})
    lines: list[str] = []
    outcome = runner.run_stage("bad", False, lines.append)
    assert outcome.status == "failed"
    assert "40" in lines
    assert len(outcome.tail) == runner.TAIL == 20
    assert outcome.tail[-2] == "40"
    assert "exited with 3" in outcome.tail[-1]


def test_output_that_is_not_text_does_not_stop_a_stage(project):
    project({"dvc.yaml": "stages:\n  odd: {cmd: printf '\\377\\n' && echo fine > x, outs: [x]}\n"})
    lines: list[str] = []
    assert runner.run_stage("odd", False, lines.append).status == "ran"
    assert "\ufffd" in lines


@pytest.mark.parametrize("sleep", ["sleep 60", "trap '' TERM; sleep 60"])
def test_cancel_leaves_no_process_and_the_stage_can_run_again(project, monkeypatch, sleep):
    monkeypatch.setattr(runner, "GRACE", 1.0)
    project({"dvc.yaml": SLOW.format(sleep=sleep)})

    def stop(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_stage("slow", False, stop)
    pid = int(Path("pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    Path("dvc.yaml").write_text(SLOW.format(sleep="true"))
    assert runner.run_stage("slow", False, print).status == "ran"


def test_a_held_lock_is_waited_for(chain):
    with Repo() as repo, repo.lock:
        waiting = subprocess.Popen(runner.command("first", False), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(4)  # DVC's own patience is 3 s
        assert waiting.poll() is None
    output, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, output
