"""Run one stage as `dvc repro` does, in a process group of its own that never outlives the caller."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Literal

Status = Literal["ran", "restored", "skipped", "failed", "blocked"]
TAIL = 20
GRACE = 5.0
# Where DVC begins to explain git, after each stage.
HINTS = "To track the changes with git, run:"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage; `tail` holds the last lines of its output.

    `restored`: DVC took the results of an earlier run with the same inputs. `skipped`: up to date.
    `blocked`: not tried, since a stage it reads from failed.
    """

    stage: str
    status: Status
    seconds: float = 0.0
    tail: tuple[str, ...] = field(default=(), repr=False)


def run_stage(name: str, force: bool, on_line: Callable[[str], None]) -> Outcome:
    """Reproduce one stage without its upstream; give each line of output to `on_line` as it comes."""
    start = time.perf_counter()
    tail: deque[str] = deque(maxlen=TAIL)
    status: Status | None = None
    with _process(command(name, force)) as process:
        for line in _lines(process):
            tail.append(line)
            on_line(line)
            status = status or _said(line, name)
    if process.returncode:
        status = "failed"
    return Outcome(name, status or "ran", round(time.perf_counter() - start, 2), tuple(tail))


def command(name: str, force: bool) -> list[str]:
    """Return the DVC command that reproduces one stage, waiting for DVC's lock instead of failing on it."""
    options = ["--force"] if force else []
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *options, name]


def _said(line: str, name: str) -> Status | None:
    # The first of these lines decides: what comes later may be the stage's own output.
    announced: dict[str, Status] = {
        f"Running stage '{name}'": "ran",
        f"Stage '{name}' is cached": "restored",
        f"Stage '{name}' didn't change": "skipped",
    }
    return next((status for start, status in announced.items() if line.startswith(start)), None)


def _lines(process: subprocess.Popen[str]) -> Iterable[str]:
    assert process.stdout is not None
    lines = (line.rstrip("\n") for line in process.stdout)
    yield from takewhile(lambda line: line != HINTS, lines)
    deque(lines, maxlen=0)


@contextmanager
def _process(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    # Stages call `python`: it must be this one, whether or not its environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        except BaseException:
            _stop(process)
            raise


def _stop(process: subprocess.Popen[str]) -> None:
    # The group, not the process: a stage's command is a child of DVC.
    deadline = time.monotonic() + GRACE
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
