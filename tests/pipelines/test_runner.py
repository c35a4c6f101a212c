import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines import runner, watchdog
from pipelines.runner import Job, Result, Runner, environment


@pytest.fixture
def job(tmp_path):
    """Make a job of shell commands."""

    def make(*commands: str, **variables: str) -> Job:
        return Job(
            name="job",
            commands=tuple(("/bin/sh", "-c", command) for command in commands),
            folder=tmp_path,
            environment=os.environ | variables,
            log=tmp_path / "logs" / "job.log",
        )

    return make


def are_dead(*pids: int) -> bool:
    """Whether processes end, which takes a moment after they were killed."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(map(lives, pids)):
            return True
        time.sleep(0.01)
    return False


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def read_pid(path: Path) -> int:
    wait_for(path)
    return int(path.read_text())


def test_lines_come_while_a_command_runs_and_are_kept_in_its_log(job):
    came: list[tuple[float, str]] = []
    work = job("echo one; echo two >&2; sleep 0.3; printf 'three\\r\\n'; printf four; echo $ADDED >> folder", ADDED="1")
    result = Runner().run(work, lambda line: came.append((time.monotonic(), line)))
    assert (result.code, result.tail) == (0, ("one", "two", "three", "four"))
    assert [line for _, line in came] == list(result.tail)
    assert came[2][0] - came[0][0] > 0.2
    assert result.seconds >= 0.3
    assert work.log.read_text() == "one\ntwo\nthree\nfour\n"
    assert (work.folder / "folder").read_text() == "1\n"


def test_exit_code_and_last_twenty_lines(job):
    work = job("seq 40; exit 3")
    result = Runner().run(work, print)
    assert (result.code, len(result.tail), result.tail[-1]) == (3, runner.TAIL, "40")
    assert runner.TAIL == 20
    assert work.log.read_text().count("\n") == 40


def test_a_log_holds_the_last_run_only(job):
    assert Runner().run(job("echo before"), print).code == 0
    work = job("echo after")
    assert Runner().run(work, print).code == 0
    assert work.log.read_text() == "after\n"


def test_a_signal_is_a_negative_code(job):
    assert Runner().run(job("kill -9 $$"), print).code == -9


def test_commands_run_in_order_until_one_fails(job):
    work = job("echo first", "echo second; exit 4", "echo third")
    result = Runner().run(work, print)
    assert (result.code, result.tail) == (4, ("first", "second"))
    assert Runner().run(job("true", "echo last"), print).tail == ("last",)


def test_output_that_is_not_text_does_not_stop_a_job(job):
    result = Runner().run(job("printf '\\377\\n'; echo fine"), print)
    assert (result.code, result.tail) == (0, ("\ufffd", "fine"))


def test_a_job_reads_nothing_that_is_typed(job):
    read, write = os.pipe()
    os.write(write, b"typed\n")
    os.close(write)
    before = os.dup(0)
    try:
        os.dup2(read, 0)
        assert Runner().run(job("cat; echo end"), print).tail == ("end",)
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read)


def test_a_log_that_cannot_be_written_does_not_stop_a_job(job):
    work = job("echo fine")
    work.log.parent.write_text("a file where the folder should be")
    assert Runner().run(work, print).tail == ("fine",)


def test_a_command_that_cannot_start_is_told(job, tmp_path):
    work = Job("job", (("no-such-shell", "-c", "true"),), tmp_path, os.environ, tmp_path / "log")
    with pytest.raises(FileNotFoundError, match="no-such-shell"):
        Runner().run(work, print)


def test_what_a_command_leaves_running_in_its_group_is_killed(job, tmp_path):
    start = time.perf_counter()
    result = Runner().run(job("sleep 60 & echo $! > left"), print)
    assert result.code == 0
    assert time.perf_counter() - start < 5
    assert are_dead(read_pid(tmp_path / "left"))


def test_stop_ends_a_whole_group(job, tmp_path):
    work = job("(sleep 60 & echo $! > grandchild; wait) & echo $$ > child; echo started; wait", "echo never")
    found, result, seconds = stopped(work)
    assert (result.code, result.tail) == (-15, ("started",))
    assert seconds < runner.GRACE
    assert are_dead(*found)


def test_stop_kills_what_ignores_it(job, monkeypatch):
    monkeypatch.setattr(runner, "GRACE", 0.5)
    found, result, seconds = stopped(job("trap '' TERM; sleep 60 & echo $! > grandchild; echo $$ > child; wait; wait"))
    assert result.code == -9
    assert 0.5 <= seconds < 5
    assert are_dead(*found)


def test_stop_ends_all_jobs_and_lets_none_begin(job, tmp_path):
    work = Runner()
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda name=name: results.append(work.run(job(f"echo $$ > {name}; sleep 60"), print)))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    found = [read_pid(tmp_path / name) for name in ("a", "b")]
    work.stop()
    for thread in threads:
        thread.join(10)
    assert [result.code for result in results] == [-15, -15]
    assert are_dead(*found)
    assert work.run(job("date > begun"), print).code == -15
    assert not (tmp_path / "begun").exists()


def stopped(job: Job) -> tuple[list[int], Result, float]:
    """Run a job, stop it once its processes have written their numbers, and return these and how it ended."""
    work = Runner()
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(work.run(job, print)))
    thread.start()
    found = [read_pid(job.folder / name) for name in ("child", "grandchild")]
    start = time.perf_counter()
    work.stop()
    thread.join(10)
    return found, results[0], time.perf_counter() - start


def test_environment_marks_a_stage_and_gives_it_its_processes_and_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_PROCESSES", raising=False)
    plain = environment(tmp_path, 3)
    assert plain == {watchdog.MARK: str(tmp_path), "PYTHONUNBUFFERED": "1", "ASSAY_PROCESSES": "3"}
    assert environment(tmp_path, 3, ["2", "GPU-5"]) == plain | {"CUDA_VISIBLE_DEVICES": "2,GPU-5"}
    # Who set it for the whole run keeps it.
    monkeypatch.setenv("ASSAY_PROCESSES", "5")
    assert "ASSAY_PROCESSES" not in environment(tmp_path, 3)


def test_a_project_with_an_environment_of_its_own_uses_that(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/somewhere")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    assert environment(tmp_path, 1)["PATH"] == f"{tmp_path}/.venv/bin{os.pathsep}/somewhere"
    assert "PATH" not in environment(tmp_path / "elsewhere", 1)
