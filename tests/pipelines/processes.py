"""Wait for what other processes do, and find those that a repository's run has started."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from pipelines.watchdog import marked

PATIENCE = 90.0
Found = TypeVar("Found")


def until(found: Callable[[], Found], what: str, patience: float = PATIENCE) -> Found:
    """Return what a call returns once that is something; the test fails if it takes too long."""
    end = time.monotonic() + patience
    while not (value := found()):
        if time.monotonic() > end:
            pytest.fail(f"after {patience:g} s still not: {what}")
        time.sleep(0.1)
    return value


def left(root: Path) -> list[str]:
    """Return the command lines of the processes that carry a repository's mark, but for this one's."""
    mark = marked(root).items()
    found = []
    for process in psutil.process_iter():
        # It may end at any moment.
        try:
            if mark <= process.environ().items() and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
