"""Kill what an engine leaves behind when it is killed itself: `python -m pipelines.watchdog MARK`.

Reads its standard input until the engine closes it, however that ends. Every process that a stage
started carries the engine's mark in its environment, also one that left its process group.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MARK = "ASSAY_RUN"
DONE = b"done"


def marked(root: Path, stage: str = "") -> dict[str, str]:
    """Return the environment that marks the processes of a repository's stages, or of one stage alone."""
    return {MARK: f"{root.resolve()}{'#' * bool(stage)}{stage}"}


def kill_leftovers(root: Path) -> list[int]:
    """Kill every process of a repository's stages, and what those start meanwhile; return their numbers."""
    return _kill(marked(root)[MARK])


class Watchdog:
    """A process that kills what carries a mark, should this one be killed; `check` starts it anew if it ended.

    Args:
        root: The repository.
        stage: Of which only the processes of this stage carry the mark.
    """

    def __init__(self, root: Path, stage: str = "") -> None:
        self._mark = marked(root, stage)[MARK]

    def __enter__(self) -> "Watchdog":
        self._start()
        return self

    def check(self) -> None:
        """Start it anew if it ended."""
        if self._process.poll() is not None:
            self._start()

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(DONE)
        except OSError:
            self._process.kill()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.watchdog", self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )


def _kill(mark: str) -> list[int]:
    import psutil

    killed: list[int] = []
    while found := [process for process in psutil.process_iter() if _is_left(process, mark)]:
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed.append(process.pid)
        psutil.wait_procs(found, timeout=1)
    return killed


def _is_left(process: Any, mark: str) -> bool:
    import psutil

    try:
        return (
            bool(process.environ().get(MARK) == mark)
            and process.pid != os.getpid()
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


if __name__ == "__main__":
    if sys.stdin.buffer.read() != DONE:
        _kill(sys.argv[1])
