"""Kill what an engine leaves behind when it is killed itself: `python -m pipelines.watchdog ROOT`.

Reads its standard input until the engine closes it, however that ends. Every process that a stage
started carries the engine's mark in its environment, also one that left its process group.
"""

import os
import sys
from pathlib import Path
from typing import Any

MARK = "ASSAY_RUN"
DONE = b"done"


def marked(root: Path) -> dict[str, str]:
    """Return the environment that marks the processes of a repository's stages."""
    return {MARK: str(root.resolve())}


def kill_leftovers(root: Path) -> list[int]:
    """Kill every process of a repository's stages, and what those start meanwhile; return their numbers."""
    import psutil

    killed: list[int] = []
    while found := [process for process in psutil.process_iter() if _is_left(process, root)]:
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed.append(process.pid)
        psutil.wait_procs(found, timeout=1)
    return killed


def _is_left(process: Any, root: Path) -> bool:
    import psutil

    try:
        mark = process.environ().get(MARK)
        return (
            bool(mark == str(root.resolve()))
            and process.pid != os.getpid()
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


if __name__ == "__main__":
    if sys.stdin.buffer.read() != DONE:
        kill_leftovers(Path(sys.argv[1]))
