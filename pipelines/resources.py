"""What a stage needs of the machine, declared under DVC's own `meta` key, and what the machine has.

In dvc.yaml::

    meta:
      assay: {cpus: 4, memory: 8 GiB, gpus: 1, retries: 2}
"""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any, Self

from stages.common.errors import InputError

KEY = "assay"
UNITS = {"MiB": 2**20, "GiB": 2**30, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Needs:
    """What one stage takes while it runs: cores, bytes of memory, GPUs; and how often a failure is tried again.

    Undeclared, a stage takes one of the run's jobs and nothing else.
    """

    cpus: float = 0
    memory: int = 0
    gpus: int = 0
    retries: int = 0

    @property
    def named(self) -> set[str]:
        """What it asks for: `cpus`, `memory`, `gpus`."""
        return {name for name in ("cpus", "memory", "gpus") if getattr(self, name)}


@dataclass(frozen=True)
class Budget:
    """What all running stages may take together; `gpus` are the names that CUDA_VISIBLE_DEVICES takes."""

    jobs: int
    cpus: float
    memory: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, jobs: int) -> Self:
        """Return the cores this process may use, all memory, and the GPUs it sees."""
        import psutil

        return cls(jobs, cores(), psutil.virtual_memory().total, tuple(_gpus()))

    def check(self, name: str, asked: Needs) -> None:
        """Raise InputError if the stage could never start."""
        if asked.gpus > len(self.gpus):
            raise InputError(
                f"{name}: meta.{KEY}.gpus", f"{asked.gpus} asked for, {len(self.gpus)} here", "run it where they are"
            )
        if asked.memory > self.memory:
            has = f"{asked.memory / 2**30:.1f} GiB asked for, {self.memory / 2**30:.1f} here"
            raise InputError(f"{name}: meta.{KEY}.memory", has, "run it where there is more, or ask for less")


class Use:
    """What is taken of a budget at the moment."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken: dict[str, tuple[Needs, tuple[str, ...]]] = {}

    def lacks(self, asked: Needs) -> set[str]:
        """Return what a stage needs that is not free now: `jobs`, `cpus`, `memory`, `gpus`.

        One that asks for more cores than there are runs once nothing else that asks for any does.
        """
        running = [needs for needs, _ in self._taken.values()]
        cpus = sum(other.cpus for other in running)
        short = {
            "jobs": len(running) >= self._budget.jobs,
            "cpus": bool(asked.cpus and cpus) and cpus + asked.cpus > self._budget.cpus,
            "memory": sum(other.memory for other in running) + asked.memory > self._budget.memory,
            "gpus": len(self._free()) < asked.gpus,
        }
        return {what for what, is_short in short.items() if is_short}

    def take(self, name: str, asked: Needs) -> tuple[str, ...]:
        """Take what a stage needs, which must be free, and return the GPUs it got."""
        gpus = tuple(self._free()[: asked.gpus])
        self._taken[name] = asked, gpus
        return gpus

    def share(self, asked: Needs, ready: int) -> int:
        """Return how many processes a stage may start that has taken what it needs.

        The cores it asks for, or else its part of all cores among the stages that run and so many others that could.
        """
        together = min(self._budget.jobs, len(self._taken) + ready)
        return max(1, int(asked.cpus or self._budget.cpus / together))

    def give_back(self, name: str) -> None:
        """Return what a stage took."""
        del self._taken[name]

    def _free(self) -> list[str]:
        busy = {gpu for _, gpus in self._taken.values() for gpu in gpus}
        return [gpu for gpu in self._budget.gpus if gpu not in busy]


def needs(meta: Mapping[str, Any] | None, name: str) -> Needs:
    """Read what a stage declares; InputError names what is wrong with it."""
    declared = (meta or {}).get(KEY) if isinstance(meta, Mapping) else None
    if declared is None:
        return Needs()
    allowed = [field.name for field in fields(Needs)]
    if not isinstance(declared, Mapping):
        raise InputError(f"{name}: meta.{KEY}", f"{declared!r} is not allowed", f"give a mapping of {allowed}")
    for key, value in declared.items():
        if key not in allowed:
            raise InputError(f"{name}: meta.{KEY}", f"has no `{key}`", f"allowed: {', '.join(allowed)}")
        whole = key in ("gpus", "retries")
        kind = int if whole else int | float
        if key != "memory" and (isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < math.inf):
            remedy = f"give a {'whole ' if whole else ''}number, 0 or more"
            raise InputError(f"{name}: meta.{KEY}.{key}", f"{value!r} is not allowed", remedy)
    memory = _bytes(declared["memory"], name) if "memory" in declared else 0
    return Needs(**{**declared, "memory": memory})


def cores() -> int:
    """Return how many cores this process may use."""
    # Only Linux says so.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes(value: Any, name: str) -> int:
    if match := re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})", str(value)):
        return int(float(match[1]) * UNITS[match[2]])
    raise InputError(
        f"{name}: meta.{KEY}.memory", f"{value!r} is not allowed", f"give a number and one of {', '.join(UNITS)}"
    )


def _gpus() -> list[str]:
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # CUDA takes the names before the first that is none, such as -1.
        names = (name.strip() for name in visible.split(","))
        return list(takewhile(lambda name: name and not name.startswith("-"), names))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
