"""Run a stage's commands as `dvc repro` does, in process groups that never outlive the caller."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipelines import watchdog
from stages.common.pool import PROCESSES

TAIL = 20
GRACE = 5.0


@dataclass(frozen=True)
class Job:
    """The commands of a stage, as argument lists, and all they need; `log` gets what they print.

    `order`: what another node must know to run it; None if it may only run here.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    order: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Result:
    """How a job ended: the exit code of its last command (negative: the signal), seconds, last lines.

    `brought`: what another node says of the outputs.
    """

    code: int
    seconds: float
    tail: tuple[str, ...] = field(default=(), repr=False)
    brought: Mapping[str, Any] | None = field(default=None, repr=False)


class Runner:
    """Runs jobs, each from the thread that calls; `stop` ends all of them."""

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()
        self._stopped = False

    def run(self, job: Job, on_line: Callable[[str], None]) -> Result:
        """Run a job's commands one after the other until one fails; give each line they print to `on_line`."""
        start = time.perf_counter()
        tail: deque[str] = deque(maxlen=TAIL)
        code = 0
        with _Log(job.log) as log:

            def take(line: str) -> None:
                tail.append(line)
                log.write(line)
                on_line(line)

            for command in job.commands:
                code = self._run(command, job, take)
                if code:
                    break
        return Result(code, round(time.perf_counter() - start, 2), tuple(tail))

    def stop(self) -> None:
        """End all jobs, and let none begin: ask first, and kill what is left after a grace period."""
        with self._guard:
            self._stopped = True
            processes = list(self._processes.values())
        for process in processes:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while any(_signal(process, 0) for process in processes) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in processes:
            _signal(process, signal.SIGKILL)

    def kill(self) -> None:
        """End all jobs without asking."""
        with self._guard:
            self._stopped = True
            for process in self._processes.values():
                _signal(process, signal.SIGKILL)

    def _run(self, command: Sequence[str], job: Job, on_line: Callable[[str], None]) -> int:
        with self._guard:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen(
                command,
                cwd=job.folder,
                env=dict(job.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes[process.pid] = process
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, on_line), daemon=True)
        reader.start()
        try:
            code = process.wait()
        finally:
            # What a command leaves running could still write to the outputs that are hashed next.
            _signal(process, signal.SIGKILL)
            with self._guard:
                del self._processes[process.pid]
            # Ends with the last process that holds the pipe; one that left its group may hold it for ever.
            reader.join(GRACE)
        return code


def environment(root: Path, processes: int, gpus: Sequence[str] = ()) -> dict[str, str]:
    """Return what is added to DVC's own environment of a stage that may start so many processes."""
    # A pipe is no terminal, so Python would keep its output back.
    added = {**watchdog.marked(root), "PYTHONUNBUFFERED": "1"}
    # Who set it for the whole run has a reason.
    if PROCESSES not in os.environ:
        added[PROCESSES] = str(processes)
    if gpus:
        added["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    if Path(sys.prefix).is_relative_to(root):
        # Stages of a project with an environment of its own call its `python`, activated or not.
        added["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return added


class _Log:
    # A full disk must not end a stage for the sake of its log.
    def __init__(self, path: Path) -> None:
        self._file: IO[str] | None = None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", errors="replace", buffering=1)

    def __enter__(self) -> "_Log":
        return self

    def write(self, line: str) -> None:
        if self._file:
            with suppress(OSError):
                self._file.write(f"{line}\n")

    def __exit__(self, *_: object) -> None:
        if self._file:
            with suppress(OSError):
                self._file.close()


def _read(stream: IO[bytes], on_line: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            on_line(line.decode("utf-8", errors="replace").rstrip("\r\n"))


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    # The group, not the process: the command is a child of a shell. 0 asks whether any of it lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return True
    return False
