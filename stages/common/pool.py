"""Run the seeds of a cell, each in a single-threaded process of its own."""

import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from typing import Any, TypeVar

from tqdm import tqdm

from stages.common.errors import InputError

Result = TypeVar("Result")
# A forked child may inherit a lock held by another thread (arrow, torch); a fork server holds none.
CONTEXT = multiprocessing.get_context("forkserver")
# Environment variable: how many processes a command may run at once; as many as there are cores if it is not set.
PROCESSES = "ASSAY_PROCESSES"
_worker_peaks = [0]


def share(seeds: int) -> tuple[int, int]:
    """Return how many seeds to run at once, and in how many processes each: for verbs that can use several.

    With more processes than seeds the seeds take turns, each in all of them.
    """
    most = _most()
    return (1, most) if seeds < most else (most, 1)


def start(processes: int, *modules: str) -> None:
    """Start the server that workers are forked from, if they will be needed; it imports `modules`; does not wait."""
    if min(processes, _most()) == 1:
        return
    CONTEXT.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def run_seeds(
    work: Callable[..., Result], items: Mapping[int, Any], *shared: Any, at_once: int | None = None
) -> dict[int, Result]:
    """Return seed -> work(seed, item, *shared); the result does not depend on the number of processes.

    Args:
        work: A function of a module (processes are started afresh and import it).
        items: Seed -> what only this seed needs.
        shared: Passed to every call.
        at_once: The most seeds that run at once, if they are to be fewer than there may be processes.
    """
    processes = min(len(items), at_once or _most())
    if processes == 1:
        return {seed: work(seed, item, *shared) for seed, item in _progress(items)}
    with ProcessPoolExecutor(processes, mp_context=CONTEXT, initializer=end_with_parent) as pool:
        futures = {seed: pool.submit(_with_peak, work, seed, item, *shared) for seed, item in items.items()}
        results = {seed: future.result() for seed, future in _progress(futures)}
    _worker_peaks.extend(peak for _, peak in results.values())
    return {seed: result for seed, (result, _) in results.items()}


def worker_peak() -> int:
    """Return the largest resident set of any worker so far, in the unit of ru_maxrss."""
    return max(_worker_peaks)


def _with_peak(work: Callable[..., Result], *arguments: Any) -> tuple[Result, int]:
    # Workers are children of the fork server, so the command's own accounting does not see them.
    result = work(*arguments)
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def end_with_parent() -> None:
    """Have this process end when its parent does: a killed command leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _progress(items: Mapping[int, Any]) -> Iterable[tuple[int, Any]]:
    # tqdm is silent where nobody watches.
    return tqdm(items.items(), desc="seeds", disable=None)  # type: ignore[no-any-return]


def _most() -> int:
    """Return how many processes may run at once."""
    if (given := os.environ.get(PROCESSES)) is not None:
        if not given.isdecimal() or int(given) < 1:
            raise InputError(PROCESSES, repr(given), "give a whole number, 1 or more, or unset it to use all cores")
        return int(given)
    # Only Linux says how many cores this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
