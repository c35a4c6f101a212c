"""The small CSV files that figures are drawn from: read, checked, and averaged over seeds."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import artifacts
from stages.common.errors import InputError
from stages.results.sources import Source
from stages.results.verbs import VERBS

POINTS = 120  # of an averaged ROC


def read(source: Source) -> pd.DataFrame:
    """Read the curve of a partition, a federation or an attack.

    Raises:
        InputError: The file is absent, lacks a column, or holds text or NaN where a number belongs.
    """
    path, columns = source.curve, VERBS[source.verb].curve
    assert path is not None
    assert columns is not None
    numbers, names = list(columns.numbers), list(columns.names)
    try:
        table = artifacts.read_table(path, [*numbers, *names])
        table = table.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(names, "str"))
    except ValueError as error:
        raise InputError(str(path), str(error), "run the stage that writes it again: `dvc repro`") from None
    if not np.isfinite(table[numbers].to_numpy()).all():
        raise InputError(
            str(path), "holds a missing or infinite number", "run the stage that writes it again: `dvc repro`"
        )
    return table


def roc(table: pd.DataFrame, grid: NDArray[np.float64]) -> pd.DataFrame:
    """Read the ROC of each seed at the same false positive rates, and average it over seeds.

    Args:
        table: Columns seed, false_positive_rate, true_positive_rate.
        grid: (points,) false positive rates.

    Returns:
        Columns false_positive_rate, seed (text; `mean` for the average) and true_positive_rate.
    """
    by_seed = {f"{seed:g}": _step(points, grid) for seed, points in table.groupby("seed")}
    by_seed["mean"] = np.mean(list(by_seed.values()), axis=0)
    wide = pd.DataFrame({"false_positive_rate": grid} | by_seed)
    tidy: pd.DataFrame = wide.melt("false_positive_rate", var_name="seed", value_name="true_positive_rate")
    return tidy


def rounds(history: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one metric of a history by seed and averaged over seeds: columns step, seed (or `mean`), value."""
    seeds = history.loc[history["metric"] == metric, ["step", "seed", "value"]]
    mean = seeds.groupby("step", as_index=False)["value"].mean().assign(seed="mean")
    named: pd.DataFrame = pd.concat([seeds.assign(seed=seeds["seed"].map("{:g}".format)), mean], ignore_index=True)
    return named


def rounds_to_target(history: pd.DataFrame, metric: str, target: float) -> "pd.Series[float]":
    """Return by seed the first step at which a metric is as good as `target`; NaN for a seed that never gets there."""
    rows = history[history["metric"] == metric]
    reached = rows["value"] <= target if metric.endswith("/loss") else rows["value"] >= target
    first = rows[reached].groupby("seed")["step"].min()
    return first.reindex(sorted(rows["seed"].unique())).rename_axis("seed")


def sent(history: pd.DataFrame, rounds: "pd.Series[float]") -> "pd.Series[float]":
    """Return by seed the bytes sent either way until the end of a round of its own; NaN for a seed without one."""
    rows = history[history["metric"].isin(["train/bytes_up", "train/bytes_down"])]
    until = rows[rows["step"] <= rows["seed"].map(rounds)]
    return until.groupby("seed")["value"].sum().reindex(rounds.index)


def _step(points: pd.DataFrame, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    # The best threshold whose false positive rate is not above the grid point: an ROC between two
    # thresholds cannot be had, so it is not interpolated.
    points = points.sort_values(["false_positive_rate", "true_positive_rate"])
    rates = np.concatenate([[0.0], np.maximum.accumulate(points["true_positive_rate"].to_numpy())])
    return rates[np.searchsorted(points["false_positive_rate"].to_numpy(), grid, side="right")]
