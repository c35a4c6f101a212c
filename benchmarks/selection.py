"""Selection of 1,000 of a million devices by their examples, against numpy's Generator.choice with the same weights.

Fresh: weights and all that comes of them are made anew, as where examples come and go. Same: they were made before,
as where they stay from round to round; numpy's has no such state. Devices have Zipf's sizes, of exponent 1.5 and at
most 100,000 examples. Independent draws are of a cohort that is as large on average.
"""

import statistics
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import REPEATS, Row, compare, row, run, seconds
from stages.federate.rules import Counting, Log, Power, Strata, Threshold, Top, Uniform
from stages.federate.selection import drawing

DEVICES, COHORT = 1_000_000, 1_000
# A selection takes milliseconds.
SELECTIONS = 5
FRESH, SAME = 0.7, 0.1
# Not slower per device when there are five times as many, but for what then no longer fits in the cache.
FEWER, LINEAR = 5, 1.5
MEBIBYTES = 64.0
RULES: dict[str, Counting] = {
    "uniform": Uniform(rule="uniform"),
    "proportional": Power(rule="power"),
    "proportional, with replacement": Power(rule="power", draw="with_replacement"),
    "proportional, independently": Power(rule="power", draw="independently"),
    "square root": Power(rule="power", exponent=0.5),
    "log": Log(rule="log"),
    "threshold": Threshold(rule="threshold", quantile=0.9),
    "top": Top(rule="top"),
    "strata": Strata(rule="strata", quantile=0.9, share=0.5),
}


def cases() -> list[Row]:
    """Return the rows of each rule, by fresh and by the same weights, of the larger population and of memory."""
    counts = devices(DEVICES)
    return [
        *(_against_numpy(name, rule, counts) for name, rule in RULES.items()),
        *(_against_numpy(name, rule, counts, fresh=False) for name, rule in RULES.items()),
        *(_linear(name, rule, counts) for name, rule in RULES.items()),
        _memory(counts),
    ]


def devices(number: int) -> NDArray[np.int64]:
    """Return the examples of so many devices."""
    sizes: NDArray[np.int64] = np.minimum(np.random.default_rng(0).zipf(1.5, number), 100_000)
    return sizes


def _against_numpy(name: str, rule: Counting, counts: NDArray[np.int64], fresh: bool = True) -> Row:
    # Of the top and of strata numpy's cannot be told; it draws proportionally.
    weights = counts.astype(float) if isinstance(rule, Top | Strata) else rule.weights(counts)
    shares = weights / weights.sum()
    drawn = drawing(rule, counts, COHORT)

    def ours(source: np.random.Generator) -> object:
        return _fresh(rule, counts, source) if fresh else drawn(source)

    def numpys(source: np.random.Generator) -> object:
        return source.choice(len(counts), COHORT, replace=False, p=shares)

    case = f"{name}, {'fresh' if fresh else 'the same'} weights"
    return compare(case, _selections(ours), "numpy", _selections(numpys), FRESH if fresh else SAME)


def _fresh(rule: Counting, counts: NDArray[np.int64], source: np.random.Generator) -> object:
    return drawing(rule, counts, COHORT)(source)


def _selections(select: Callable[[np.random.Generator], object]) -> Callable[[], object]:
    return lambda: [select(np.random.default_rng(seed)) for seed in range(SELECTIONS)]


def _linear(name: str, rule: Counting, counts: NDArray[np.int64]) -> Row:
    fewer = counts[: len(counts) // FEWER]

    def of(some: NDArray[np.int64]) -> float:
        select = _selections(partial(_fresh, rule, some))
        return statistics.median(seconds(select) for _ in range(3))

    times = [(of(counts) / FEWER, of(fewer)) for _ in range(REPEATS)]
    return row(f"{name}, fresh weights, per {len(fewer):,} devices", f"{len(fewer):,} devices", times, LINEAR)


def _memory(counts: NDArray[np.int64]) -> Row:
    def peak(rule: Counting) -> float:
        tracemalloc.start()
        drawing(rule, counts, COHORT)(np.random.default_rng(0))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / 2**20

    most = max(map(peak, RULES.values()))
    return row("the rule with the most memory", "the bound", [(most, MEBIBYTES)], 1.0, "MiB")


if __name__ == "__main__":
    run("selection", __doc__ or "", cases)
