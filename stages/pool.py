"""Run the seeds of a cell, each in a single-threaded process of its own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

Result = TypeVar("Result")


def run_seeds(work: Callable[..., Result], items: Mapping[int, Any], *shared: Any) -> dict[int, Result]:
    """Return seed -> work(seed, item, *shared); the result does not depend on the number of processes.

    Args:
        work: A function of a module (processes are started afresh and import it).
        items: Seed -> what only this seed needs.
        shared: Passed to every call.
    """
    processes = min(len(items), _cores())
    if processes == 1:
        return {seed: work(seed, item, *shared) for seed, item in _progress(items)}
    # A forked child may inherit a lock held by another thread (arrow, torch); a fork server holds none.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        futures = {seed: pool.submit(work, seed, item, *shared) for seed, item in items.items()}
        return {seed: future.result() for seed, future in _progress(futures)}


def _end_with_parent() -> None:
    # A killed command must leave no process behind, and only its own end tells a worker of it.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _progress(items: Mapping[int, Any]) -> Iterable[tuple[int, Any]]:
    # tqdm is silent where nobody watches.
    return tqdm(items.items(), desc="seeds", disable=None)  # type: ignore[no-any-return]


def _cores() -> int:
    # Only Linux says how many cores this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
