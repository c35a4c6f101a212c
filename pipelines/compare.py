"""Results at two states of the project, compared with their noise in mind, and why they differ.

A metric is better or worse if its mean over the seeds that both sides share moved by more than the seeds and the
tolerance allow (paired t test, Holm over all metrics of a study that moved); changed if it has no direction. It says
nothing of the test set: how far a number depends on the examples is the same on both sides and stands in the metrics
files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from pipelines.causes import Causes
from pipelines.revisions import PINS, Files, WorkingTree, read_json, read_yaml
from stages.common.errors import InputError
from stages.common.settings import Settings, parse
from stages.report.settings import profile
from stages.results.long_table import long_table
from stages.results.sources import Source, reported_studies, sources
from stages.results.statistics import Test, holm, paired_test, resolution, welch_test
from stages.results.summaries import summarise

Word = Literal["worse", "better", "changed", "new", "gone", "within noise", "equal"]
KEYS = ["study", "verb", "cell", "split", "metric", "group"]
ALPHA = 0.05


class Tolerance(Settings):
    """How far metrics may move and count as the same: absolute, or relative to the value before.

    Less than a millionth is how computers round, not what was measured.
    """

    absolute: float = Field(0.0, ge=0)
    relative: float = Field(1.0e-6, ge=0)


class DiffSettings(Settings):
    """The block `diff` of params.yaml: patterns of `study/cell/split/metric[/group]` -> tolerance; the last to fit."""

    tolerance: dict[str, Tolerance] = Field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """A metric on one side: mean over seeds, its interval as tables show it (None for one seed), how many seeds."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Change:
    """How one metric differs between two states.

    `difference` is after less before, with its interval; `p` is Holm's; `n` is of the seeds compared.
    """

    study: str
    verb: str
    cell: str
    split: str
    metric: str
    group: str | None
    unit: str
    best: str | None
    before: Side | None
    after: Side | None
    verdict: Word
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    p: float | None = None
    why: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a tolerance's pattern is held against."""
        return "/".join(part for part in (self.study, self.cell, self.split, self.metric, self.group) if part)


@dataclass(frozen=True)
class Comparison:
    """What differs between two states: metrics, and the environment they ask for."""

    before: str
    after: str
    changes: list[Change]
    environment: list[str]

    @property
    def worse(self) -> list[Change]:
        """The metrics that got worse."""
        return [change for change in self.changes if change.verdict == "worse"]


def compare(before: Files, after: Files) -> Comparison:
    """Compare the results of two states.

    Raises:
        InputError: A file of either cannot be read, or neither has results.
    """
    tables = [_results(files) for files in (before, after)]
    if all(table.empty for table in tables):
        raise InputError(f"{before.name} and {after.name}", "neither has results", "`dvc repro` makes them")
    settings = parse(DiffSettings, read_yaml(after, "params.yaml").get("diff") or {}, "diff")
    causes = Causes(before.read("dvc.lock"), after.read("dvc.lock"))
    left, right = (_by_metric(table) for table in tables)
    measured = [_measure(key, left.get(key), right.get(key)) for key in dict.fromkeys([*left, *right])]
    adjusted = _adjusted(measured)
    changes = [_judge(each, adjusted.get(each.key), settings, causes) for each in measured]
    pins = [[files.read(path) for path in PINS] for files in (before, after)]
    return Comparison(before.name, after.name, changes, causes.environment(*pins))


@dataclass(frozen=True)
class _Values:
    """A metric on one side: its unit and direction, its side, seed -> value, and the deviation of one example."""

    unit: str
    best: str | None
    side: Side
    by_seed: dict[int, float]
    blur: float = 0.0


@dataclass(frozen=True)
class _Measured:
    key: tuple[str, ...]
    before: _Values | None
    after: _Values | None
    # Of the values; and of how good they are, which for a metric with a target is another thing.
    test: Test | None = None
    gain: Test | None = None

    @property
    def known(self) -> _Values:
        found = self.after or self.before
        assert found is not None
        return found


def _results(files: Files) -> pd.DataFrame:
    parameters = read_yaml(files, "params.yaml")
    if not parameters:
        return long_table("", [])
    found = [source for study in reported_studies(parameters) for source in sources(parameters, study)]
    there = [source for source in found if files.read(str(source.metrics)) is not None]
    try:
        return long_table(profile(parameters), there, lambda path: read_json(files, path))
    except InputError as error:
        if isinstance(files, WorkingTree) or files.name in error.where:
            raise
        remedy = "another version of the project wrote it: compare with a commit that this one can read"
        raise InputError(f"{files.name}: {error.where}", error.problem, remedy) from None


def _by_metric(table: pd.DataFrame) -> dict[tuple[str, ...], _Values]:
    found: dict[tuple[str, ...], _Values] = {}
    sides = _sides(table)
    rows = table.assign(group=table["group"].fillna(""), best=table["best"].fillna(""))
    # As plain values: a column of text is slow to read one by one.
    columns = (rows[name].tolist() for name in (*KEYS, "unit", "best", "seed", "value", "n"))
    for *key, unit, best, seed, value, n in zip(*columns, strict=True):
        blur = 0.0 if pd.isna(n) else resolution(n)
        found.setdefault(tuple(key), _Values(unit, best or None, sides[tuple(key)], {}, blur)).by_seed[seed] = value
    return found


def _sides(table: pd.DataFrame) -> dict[tuple[str, ...], Side]:
    summary = summarise(table)
    keys = zip(*(summary[name].fillna("").tolist() for name in KEYS), strict=True)
    ends = (summary[end].astype(object).where(summary[end].notna(), None).tolist() for end in ("ci_low", "ci_high"))
    sides = map(Side, summary["mean"].tolist(), *ends, summary["seeds"].tolist())
    return dict(zip(keys, sides, strict=True))


def _measure(key: tuple[str, ...], before: _Values | None, after: _Values | None) -> _Measured:
    if before is None or after is None or before.by_seed == after.by_seed:
        return _Measured(key, before, after)
    shared = sorted(before.by_seed.keys() & after.by_seed.keys())
    if len(shared) >= 2:
        one, other = ([values.by_seed[seed] for seed in shared] for values in (before, after))
        test = partial(paired_test, least_deviation=max(before.blur, after.blur))
        return _Measured(key, before, after, test(other, one), _gain(test, other, one, after.best))
    one, other = (list(values.by_seed.values()) for values in (before, after))
    if min(len(one), len(other)) >= 2:
        test = partial(_unpaired, least_deviation=max(before.blur, after.blur))
        return _Measured(key, before, after, test(other, one), _gain(test, other, one, after.best))
    return _Measured(key, before, after)


def _unpaired(left: list[float], right: list[float], least_deviation: float) -> Test:
    one, other = (
        (float(np.mean(side)), max(float(np.std(side, ddof=1)), least_deviation), len(side)) for side in (left, right)
    )
    return welch_test(one, other)


def _gain(
    test: Callable[[list[float], list[float]], Test], after: list[float], before: list[float], best: str | None
) -> Test:
    """Test by how much a metric got better."""
    match best:
        case None | "max":
            return test(after, before)
        case "min":
            return test(before, after)
    target = float(best)
    return test([-abs(value - target) for value in after], [-abs(value - target) for value in before])


def _adjusted(measured: Iterable[_Measured]) -> dict[tuple[str, ...], float]:
    # By study; what only describes is a family of its own, so that it costs the rest no power.
    families: dict[tuple[str, bool], list[tuple[tuple[str, ...], float]]] = {}
    for each in measured:
        if each.gain:
            families.setdefault((each.key[0], each.known.best is None), []).append((each.key, each.gain.p))
    return {
        key: float(p)
        for family in families.values()
        for (key, _), p in zip(family, holm([raw for _, raw in family]), strict=True)
    }


def _judge(each: _Measured, p: float | None, settings: DiffSettings, causes: Causes) -> Change:
    study, verb, cell, split, metric, group = each.key
    change = Change(
        study=study,
        verb=verb,
        cell=cell,
        split=split,
        metric=metric,
        group=group or None,
        unit=each.known.unit,
        best=each.known.best,
        before=each.before.side if each.before else None,
        after=each.after.side if each.after else None,
        verdict="equal",
    )
    if each.before and each.after and each.before.by_seed == each.after.by_seed:
        return change
    why = tuple(causes.of(_metrics_file(study, verb, cell)))
    if change.before is None or change.after is None:
        return replace(change, verdict="new" if change.before is None else "gone", why=why)
    moved = each.test.estimate if each.test else _moved(each)
    tolerance = _tolerance(change.name, settings)
    within = abs(moved) <= max(tolerance.absolute, tolerance.relative * abs(change.before.mean))
    if each.test is None or each.gain is None:
        # One seed shows no noise to compare with.
        return replace(change, verdict="within noise" if within else "changed", difference=moved, n=1, why=why)
    word: Word = "within noise"
    if p is not None and p < ALPHA and not within:
        gained: Word = "better" if each.gain.estimate > 0 else "worse"
        word = gained if change.best else "changed"
    test = each.test
    return replace(change, verdict=word, difference=test.estimate, low=test.low, high=test.high, n=test.n, p=p, why=why)


def _moved(each: _Measured) -> float:
    """Return after less before, over the one seed that both share, or over all if they share none."""
    sides = [side.by_seed for side in (each.before, each.after) if side]
    shared = set.intersection(*(set(side) for side in sides))
    before, after = (np.mean([side[seed] for seed in shared or side]) for side in sides)
    return float(after - before)


@cache
def _metrics_file(study: str, verb: str, cell: str) -> str:
    return str(Source(study, verb, cell).metrics)


def _tolerance(name: str, settings: DiffSettings) -> Tolerance:
    fitting = [found for pattern, found in settings.tolerance.items() if fnmatchcase(name, pattern)]
    return fitting[-1] if fitting else Tolerance()
