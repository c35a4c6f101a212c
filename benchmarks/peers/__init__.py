"""Other simulators of federated learning, each in an environment of its own, since they want other versions."""

import hashlib
import os
import signal
import subprocess
import sys
import venv
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.work import FOLDER

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TORCH = "torch"


class PeerError(RuntimeError):
    """A peer that cannot be installed, or that ended before it was told to."""


def python(name: str) -> Path:
    """Return the interpreter of a peer's environment, made once: minutes, and up to 2 GB in the user's cache."""
    requirements = (HERE / f"{name}.txt").read_text(encoding="utf-8").split()
    digest = hashlib.sha256(f"{requirements}{sys.version}".encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / f"peer-{name}-{digest}"
    finished = folder / "finished"
    if not finished.exists():
        print(f"making an environment for {name} in {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        # torch on its own, so that a CPU build is taken where one is offered.
        first = [each for each in requirements if each.startswith(TORCH)]
        for wanted in (first, requirements):
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted]
            if subprocess.run(command, check=False).returncode:
                raise PeerError(f"{name} could not be installed: {' '.join(command)}")
        finished.touch()
    return folder / "bin" / "python"


class Peer:
    """A peer that makes rounds one by one, when it is told to.

    It reads its work from a folder (see `work.write`), says `ready`, and makes a round for each line `go`, after which
    it says `done`; at `weights` it writes what it has to weights.npy. Its errors are kept for a message.

    Args:
        name: Of the peer: pfl or flower.
        command: Arguments of its interpreter; it finds the folder in the environment.
        folder: With its work.
    """

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self._name, self._command, self._folder = name, command, folder

    def __enter__(self) -> Self:
        interpreter = python(self._name)
        with ExitStack() as stack:
            self._log = stack.enter_context((self._folder / f"{self._name}.log").open("w+", encoding="utf-8"))
            # One thread for each process, as all sides have it.
            ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), FOLDER: str(self._folder)}
            self._process = subprocess.Popen(
                [str(interpreter), *self._command],
                cwd=ROOT,
                env={**os.environ, **ours, "FLWR_TELEMETRY_ENABLED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                start_new_session=True,
            )
            stack.callback(self._end)
            self._wait("ready")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def round(self, number: int) -> None:
        """Have it make its next round, whose number it knows."""
        del number
        self._tell("go")

    def weights(self) -> NDArray[np.float32]:
        """Return (P,) its weights after the last round."""
        self._tell("weights")
        found: NDArray[np.float32] = np.load(self._folder / "weights.npy")
        return found

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # One that has ended says so by its silence.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == word:
                return
        self._log.seek(0)
        raise PeerError(f"{self._name} ended before it said `{word}`:\n{self._log.read()[-6000:]}")

    def _end(self) -> None:
        """End the peer: by the end of its input, else by a signal, on which it ends what it started, else at once."""
        for patience, harder in ((60, self._process.terminate), (10, self._kill)):
            with suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=patience)
                return
            harder()
        self._process.communicate()

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
