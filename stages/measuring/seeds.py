"""Measure the models of a cell, one seed in each process."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stages.common.pool import run_seeds
from stages.models.process import set_up_process

Result = TypeVar("Result")


def measure_seeds(work: Callable[..., Result], items: Mapping[int, Any], *shared: Any) -> dict[int, Result]:
    """Return seed -> work(seed, item, *shared), as `run_seeds` does, in processes set up as those that train are."""
    return run_seeds(_set_up_and_measure, items, work, *shared)


def _set_up_and_measure(seed: int, item: Any, work: Callable[..., Result], *shared: Any) -> Result:
    set_up_process()
    return work(seed, item, *shared)
