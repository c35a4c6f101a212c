"""Do metrics of bias agree, and do they rise with the bias that was planted?

A unit is a model: a cell, by the mean over its seeds; the spread over them is its noise. Every score is oriented so
that bigger is more biased. A metric whose best is `max` is negated; one with a target is the value less the target
where the axis is `signed`, so that the sign is part of the truth, and else how far it is from the target; every other
metric is kept as it is. Orientation comes first, seed by seed: the mean distance from a target is therefore above 0
of a model without bias, by its noise.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from stages.common.errors import InputError
from stages.common.measurements import CONFIDENCE
from stages.common.settings import PARAMETERS, Seed, Settings
from stages.results import correlations
from stages.results.correlations import COEFFICIENTS, LEAST_MODELS
from stages.results.metrics import METRICS
from stages.results.statistics import holm

# Of fewer admitted models no verdict is drawn: at 8 a true rho of .5 is seen one time in four.
LEAST_FOR_VERDICT = 8
# What the power is to see.
TRUE_CORRELATION = 0.5
KINDS = ("intrinsic", "extrinsic")


def _known(key: str) -> str:
    parts = key.split("/", 2)
    if len(parts) < 2 or parts[1] not in METRICS:
        raise ValueError("give split/metric or split/metric/group, of a metric of stages/results/metrics.py")
    return key


def _once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("each must be given once")
    return names


def _one_family_each(families: dict[str, list[str]]) -> dict[str, list[str]]:
    _once([cell for cells in families.values() for cell in cells])
    return families


Key = Annotated[str, AfterValidator(_known)]
Keys = Annotated[list[Key], Field(min_length=1), AfterValidator(_once)]
# It is part of the name of a figure's file.
AxisName = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]


class Axis(Settings):
    """One axis of bias: the metrics that measure it, and the key of the dose that was planted, if one was.

    `signed` says that the bias has a sign, the other way round being one too. A metric without a sign, such as a gap,
    cannot follow a dose both ways.
    """

    dose: Key | None = None
    signed: bool = False
    intrinsic: Keys
    extrinsic: Keys


class Admission(Settings):
    """A model needs at least `least` of a metric, by the mean over its seeds."""

    metric: Key
    least: float


class AgreementSettings(Settings):
    """Which metrics of a study are compared; a cell in no family is a family of its own."""

    axes: dict[AxisName, Axis] = Field(min_length=1)
    families: Annotated[dict[str, list[str]], AfterValidator(_one_family_each)] = Field(default_factory=dict)
    admission: Admission | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class Agreement:
    """What was found of a study.

    Args:
        pairs: A row per axis, intrinsic and extrinsic metric.
        truth: A row per metric and dose, none if nothing was planted.
        noise: A row per metric.
        models: How many models were admitted.
        remarks: What was left out or could not be had, named and counted, a sentence each.
    """

    pairs: pd.DataFrame
    truth: pd.DataFrame
    noise: pd.DataFrame
    models: int
    remarks: list[str]


@dataclass(frozen=True)
class _Score:
    """A metric of an axis: (models,) its oriented mean of each, NaN where it is missing, and its noise."""

    axis: str
    kind: str
    key: str
    orientation: str
    means: NDArray[np.float64]
    seeds: int
    within: float
    between: float
    reliability: float

    @property
    def named(self) -> dict[str, Any]:
        return {"axis": self.axis, "kind": self.kind, "metric": self.key, "orientation": self.orientation}


def agreement(results: pd.DataFrame, settings: AgreementSettings) -> Agreement:
    """Compare the metrics of a study with each other and with the doses.

    Args:
        results: The study's rows of the long table.
        settings: Which metrics, axes, families and models.

    Raises:
        InputError: Two verbs measure the same metric of a cell, so that nobody could say which is meant.
    """
    scored = {key for axis in settings.axes.values() for key in (*axis.intrinsic, *axis.extrinsic)}
    planted = {name: axis.dose for name, axis in settings.axes.items() if axis.dose is not None}
    others = set(planted.values())
    others |= {settings.admission.metric} if settings.admission else set()
    values = _values(results, scored | others)
    cells = list(values.loc[values["key"].isin(scored), "cell"].unique())
    models, remarks = _admitted(cells, values, settings.admission)
    blocks, strangers = _blocks(models, settings.families, set(results["cell"]))
    doses = {name: _means(values, key, models) for name, key in planted.items()}
    scores = [
        _score(values, models, name, axis, kind, key)
        for name, axis in settings.axes.items()
        for kind in KINDS
        for key in getattr(axis, kind)
    ]
    pairs = _pairs(scores, doses, blocks, settings.seed)
    truth = _truth(scores, doses, blocks, settings.seed) if doses else pd.DataFrame()
    measured = {score.key: score.means for score in scores}
    measured |= {planted[name]: dose for name, dose in doses.items()}
    further = [
        *_listed("cell of a family that the study does not have", strangers),
        *_missing(measured, models),
        *_small(len(models), len(np.unique(blocks)), pairs),
    ]
    noise = pd.DataFrame(
        score.named
        | {
            "models": int((~np.isnan(score.means)).sum()),
            "seeds": score.seeds,
            "within": score.within,
            "between": score.between,
            "reliability": score.reliability,
        }
        for score in scores
    )
    if not models:
        # Of none there is no more to say than why.
        return Agreement(pairs[:0], truth[:0], noise[:0], 0, remarks)
    return Agreement(pairs, truth, noise, len(models), remarks + further)


def _values(results: pd.DataFrame, keys: set[str]) -> pd.DataFrame:
    """Return the rows of these keys, in a column `key`; a partition may share its name with a cell and is none."""
    rows = results[results["verb"] != "partition"]
    groups = ("/" + rows["group"]).fillna("")
    rows = rows.assign(key=rows["split"] + "/" + rows["metric"] + groups)[["cell", "key", "seed", "value"]]
    rows = rows[rows["key"].isin(keys)]
    row: Any
    for row in rows[rows.duplicated(["cell", "key", "seed"])].itertuples():
        problem = f"`{row.key}` of the cell `{row.cell}` is measured by two verbs"
        raise InputError(f"{PARAMETERS}: report.agreement", problem, "give the metrics of one of them another split")
    return rows


def _means(values: pd.DataFrame, key: str, models: list[str]) -> NDArray[np.float64]:
    means = values[values["key"] == key].groupby("cell")["value"].mean()
    # Rounding must not untie models.
    return means.reindex(models).to_numpy(dtype=np.float64).round(12)


def _admitted(cells: list[str], values: pd.DataFrame, admission: Admission | None) -> tuple[list[str], list[str]]:
    if admission is None:
        return cells, []
    by_cell = dict(zip(cells, _means(values, admission.metric, cells), strict=True))
    # A missing mean is not at least anything.
    unknown = [cell for cell, mean in by_cell.items() if math.isnan(mean)]
    low = [cell for cell, mean in by_cell.items() if mean < admission.least]
    remarks = _listed(f"model below {admission.least:g} of {admission.metric}, left out", low)
    remarks += _listed(f"model without {admission.metric}, left out", unknown)
    return [cell for cell in cells if by_cell[cell] >= admission.least], remarks


def _blocks(models: list[str], families: dict[str, list[str]], known: set[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return (models,) the family of each as a number, and the cells of families that are no cells of the study."""
    places = {cell: place for place, cells in enumerate(families.values()) for cell in cells}
    alone = {cell: len(families) + place for place, cell in enumerate(models)}
    blocks = np.array([places.get(cell, alone[cell]) for cell in models], dtype=np.int64)
    return blocks, [cell for cell in places if cell not in known]


def _oriented(values: "pd.Series[float]", key: str, signed: bool) -> tuple["pd.Series[float]", str]:
    best = METRICS[key.split("/", 2)[1]].best
    if isinstance(best, float):
        apart = values - best
        return (apart, f"value - {best:g}") if signed else (apart.abs(), f"|value - {best:g}|")
    return (-values, "negated") if best == "max" else (values, "as it is")


def _score(values: pd.DataFrame, models: list[str], name: str, axis: Axis, kind: str, key: str) -> _Score:
    rows = values[(values["key"] == key) & values["cell"].isin(models)]
    oriented, orientation = _oriented(rows["value"].astype("float64"), key, axis.signed)
    by_cell = oriented.groupby(rows["cell"]).agg(["mean", "var", "size"])
    spare = by_cell["size"] - 1
    # Pooled over models.
    within = float((by_cell["var"].fillna(0.0) * spare).sum() / spare.sum()) if spare.sum() else math.nan
    # Rounding must not untie models.
    means = by_cell["mean"].reindex(models).to_numpy(dtype=np.float64).round(12)
    there = means[~np.isnan(means)]
    between = float(there.var(ddof=1)) if len(there) > 1 else math.nan
    noise = within * float((1 / by_cell["size"]).mean()) if len(by_cell) else math.nan
    return _Score(
        name,
        kind,
        key,
        orientation,
        means,
        seeds=int(by_cell["size"].median()) if len(by_cell) else 0,
        within=math.sqrt(within),
        between=math.sqrt(between),
        # Of a model's mean over seeds, which is what is correlated: ICC(1, k) of Shrout and Fleiss 1979.
        reliability=1 - noise / between if between else math.nan,
    )


def _pairs(
    scores: list[_Score], doses: dict[str, NDArray[np.float64]], blocks: NDArray[np.int64], seed: int
) -> pd.DataFrame:
    found = []
    for one in (score for score in scores if score.kind == "intrinsic"):
        for other in (score for score in scores if score.kind == "extrinsic" and score.axis == one.axis):
            row: dict[str, Any] = {
                "axis": one.axis,
                "intrinsic": one.key,
                "extrinsic": other.key,
                "intrinsic_orientation": one.orientation,
                "extrinsic_orientation": other.orientation,
            }
            row |= _related(one.means, other.means, blocks, seed)
            row |= _left_out(one.means, other.means, blocks)
            row["power"] = correlations.power(row["n"], TRUE_CORRELATION)
            row["intrinsic_reliability"], row["extrinsic_reliability"] = one.reliability, other.reliability
            row["pearson_corrected"] = _corrected(row["pearson"], one.reliability, other.reliability)
            found.append(row | _partial(one.means, other.means, list(doses.values())))
    table = _with_holm(pd.DataFrame(found))
    return table.assign(significant=_significant(table))


def _truth(
    scores: list[_Score], doses: dict[str, NDArray[np.float64]], blocks: NDArray[np.int64], seed: int
) -> pd.DataFrame:
    found = []
    for score in scores:
        for name, dose in doses.items():
            row = score.named | {"dose": name, "own": name == score.axis}
            row |= _related(dose, score.means, blocks, seed)
            found.append(row | _slope(dose, score.means, blocks, seed))
    table = _with_holm(pd.DataFrame(found))
    words = np.where(table["spearman"] > 0, "rises", "falls")
    table["verdict"] = np.where(_significant(table), words, "not shown")
    # Not even that is said of too few models.
    table["verdict"] = table["verdict"].where(table["n"] >= LEAST_FOR_VERDICT)
    return table


def _both(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = ~(np.isnan(x) | np.isnan(y))
    return there


def _related(x: NDArray[np.float64], y: NDArray[np.float64], blocks: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Return the coefficients of the models that have both, each with its interval and p, missing of too few."""
    there = _both(x, y)
    x, y, n = x[there], y[there], int(there.sum())
    values, tests, intervals = np.full(3, np.nan), np.full(3, np.nan), [(math.nan, math.nan)] * 3
    if n >= LEAST_MODELS and np.ptp(x) and np.ptp(y):
        [values] = correlations.coefficients(x, y, np.ones((1, n), dtype=np.int64))
        replicates = correlations.coefficients(x, y, correlations.resamples(blocks[there], seed))
        intervals = [correlations.percentiles(column) for column in replicates.T]
        tests = correlations.p_values(x, y, seed)
    row: dict[str, Any] = {"n": n}
    for name, value, (low, high), p in zip(COEFFICIENTS, values, intervals, tests, strict=True):
        row |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_p": p}
    return row


def _slope(dose: NDArray[np.float64], y: NDArray[np.float64], blocks: NDArray[np.int64], seed: int) -> dict[str, float]:
    there = _both(dose, y)
    slope = low = high = math.nan
    if there.sum() >= LEAST_MODELS and np.ptp(dose[there]):
        x, y = dose[there], y[there]
        slope = float(correlations.slopes(x, y, np.ones((1, len(x)), dtype=np.int64))[0])
        low, high = correlations.percentiles(correlations.slopes(x, y, correlations.resamples(blocks[there], seed)))
    return {"slope": slope, "slope_low": low, "slope_high": high}


def _left_out(x: NDArray[np.float64], y: NDArray[np.float64], blocks: NDArray[np.int64]) -> dict[str, float]:
    """Return the least and the greatest Spearman's rho without one family."""
    there = _both(x, y)
    resamples = correlations.without_each(blocks[there])
    each = correlations.coefficients(x[there], y[there], resamples)[:, 1] if len(resamples) else np.empty(0)
    each = each[~np.isnan(each)]
    ends = (float(each.min()), float(each.max())) if len(each) else (math.nan, math.nan)
    return dict(zip(("without_a_family_low", "without_a_family_high"), ends, strict=True))


def _corrected(pearson: float, one: float, other: float) -> float:
    """Return r as it would be without noise (Spearman 1904), which may be above 1; NaN if a reliability is not above 0.

    It takes the noise of the two metrics as independent, though both are measured on the models of the same seeds.
    """
    return pearson / math.sqrt(one * other) if one > 0 and other > 0 else math.nan


def _partial(x: NDArray[np.float64], y: NDArray[np.float64], doses: list[NDArray[np.float64]]) -> dict[str, float]:
    there = _both(x, y)
    for dose in doses:
        there &= ~np.isnan(dose)
    r, p = math.nan, math.nan
    if doses and there.sum() >= LEAST_MODELS:
        r, p = correlations.partial_correlation(x[there], y[there], np.column_stack(doses)[there])
    return {"partial": r, "partial_p": p, "partial_n": int(there.sum())}


def _with_holm(table: pd.DataFrame) -> pd.DataFrame:
    """Add to each p that of Holm, over all rows of an axis that have one."""
    for name in COEFFICIENTS:
        p = table[f"{name}_p"].dropna()
        adjusted = [pd.Series(holm(each.to_numpy()), index=each.index) for _, each in p.groupby(table["axis"])]
        table[f"{name}_p_holm"] = pd.concat([pd.Series(dtype="float64"), *adjusted]).reindex(table.index)
    return table


def _significant(table: pd.DataFrame) -> "pd.Series[bool]":
    return (table["spearman_p_holm"] < 1 - CONFIDENCE) & (table["n"] >= LEAST_FOR_VERDICT)


def _missing(measured: dict[str, NDArray[np.float64]], models: list[str]) -> list[str]:
    absent = [key for key, means in measured.items() if np.isnan(means).all()]
    there = {key: means for key, means in measured.items() if key not in absent}
    constant = [key for key, means in there.items() if len(models) > 1 and np.nanmin(means) == np.nanmax(means)]
    remarks = _listed("metric that no admitted model has", absent)
    remarks += _listed("metric with one value for all models, which correlates with nothing", constant)
    for key, means in there.items():
        without = [model for model, mean in zip(models, means, strict=True) if math.isnan(mean)]
        remarks += _listed(f"model without {key}", without)
    return remarks


def _small(models: int, families: int, pairs: pd.DataFrame) -> list[str]:
    short = pairs[pairs["n"] < LEAST_MODELS]
    few = [f"{one} with {other}" for one, other in zip(short["intrinsic"], short["extrinsic"], strict=True)]
    remarks = _listed(f"pair with fewer than {LEAST_MODELS} models, and no correlation", few)
    if families < LEAST_MODELS <= models:
        remarks.append(f"Fewer than {LEAST_MODELS} families: there is no interval.")
    if models < LEAST_FOR_VERDICT:
        remarks.append(
            f"Models: {models}. Of fewer than {LEAST_FOR_VERDICT} admitted models no verdict on correlation is drawn."
        )
    return remarks


def _listed(what: str, names: Iterable[str]) -> list[str]:
    """Return `What: 2 (a, b).`, or nothing of no names."""
    found = list(names)
    return [f"{what[0].upper()}{what[1:]}: {len(found)} ({', '.join(found)})."] if found else []
