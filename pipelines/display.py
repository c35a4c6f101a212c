"""Show a run in Prefect without waiting for Prefect.

To import Prefect and to start a server take longer than many a stage. So the engine begins at once, and
tells a process of its own, `pipelines/follower.py`, what it does; that one brings Prefect up meanwhile and
runs the flow, whose tasks follow the stages. A run does not fail because Prefect does.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines import watchdog
from pipelines.engine import Observer, Outcome
from pipelines.workplace import FOLDER

# How long a run that has ended waits until Prefect has taken all of it: whole, or broken off.
PATIENCE = 120.0
GRACE = 10.0


class Display:
    """An observer that passes on what it sees, and sends it to a process that shows it in Prefect once it is begun."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []
        self._log = Path()
        # Whether anybody takes messages: what is said before and after that would only be kept.
        self._sending = False

    def begin(self, root: Path, about: Mapping[str, Any]) -> None:
        """Start the other process.

        Args:
            root: The repository, whose mark the process carries: a killed run leaves none behind.
            about: What `pipelines.following.Following` takes.
        """
        self._log = root / FOLDER / "prefect.log"
        self._sending = True
        self._send(about)
        with self._log.open("wb") as log:
            # A group of its own: Ctrl-C at the terminal is for the run, which still needs it then.
            # -P: a folder `pipelines` of the user's repository is not ours.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipelines.follower", str(root)],
                env={**os.environ, **watchdog.marked(root)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        # A pipe holds little, and the engine must not wait for it.
        self._threads = [
            threading.Thread(target=work, args=(self._process,), daemon=True) for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def end(self, outcomes: Sequence[Outcome] | None) -> None:
        """Say that the run ended, with an outcome for each stage, or broken off; wait until Prefect has taken it."""
        if self._process is None:
            return
        if outcomes is not None:
            self._send({"outcomes": [asdict(outcome) for outcome in outcomes]})
        self._messages.put(None)
        try:
            code = self._process.wait(GRACE if outcomes is None else PATIENCE)
        except subprocess.TimeoutExpired:
            self._observer.says(f"Prefect has not taken all of this run; it said: {self._log}")
        else:
            if code and outcomes is not None:
                self._observer.says(f"Prefect does not show this run; it said: {self._log}")
        finally:
            # Its server, too.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for thread in self._threads:
                thread.join()

    def started(self, stage: str) -> None:
        """A stage's commands begin."""
        self._send({"started": stage})
        self._observer.started(stage)

    def line(self, stage: str, text: str) -> None:
        """A stage printed a line."""
        self._send({"line": stage, "text": text})
        self._observer.line(stage, text)

    def ended(self, outcome: Outcome) -> None:
        """A stage is decided."""
        failed = "" if outcome.status == "ran" else outcome.reason or outcome.status
        self._send({"ended": outcome.stage, "failed": failed})
        self._observer.ended(outcome)

    def says(self, text: str) -> None:
        """Pass a message on."""
        self._observer.says(text)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._sending:
            self._messages.put(json.dumps(message, default=str))

    def _write(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        # When the other is gone nobody reads; what is left is thrown away.
        with suppress(OSError), process.stdin as pipe:
            while (message := self._messages.get()) is not None:
                pipe.write(f"{message}\n")
                if self._messages.empty():
                    pipe.flush()
        self._sending = False

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as pipe:
            for line in pipe:
                self.says(line.rstrip("\n"))
