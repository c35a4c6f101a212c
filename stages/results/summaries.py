"""Each cell's mean over seeds, with two intervals that must not be confused.

The interval over seeds says how far the mean depends on the seed: it comes from the spread between
runs. The sampling half-width says how far one run's number depends on which examples it was measured
on: it comes from the metrics files. Neither contains the other.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from stages.common.measurements import CONFIDENCE
from stages.results.statistics import wilson_interval

KEYS = ["study", "verb", "cell", "role", "split", "metric", "group", "unit", "best"]


def t_interval(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], seeds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% t interval of each mean; NaN where there are fewer than two seeds.

    Args:
        mean: (n,) means over seeds.
        deviation: (n,) standard deviations over seeds, with seeds - 1 in the denominator.
        seeds: (n,) numbers of seeds.
    """
    degrees = np.where(seeds > 1, seeds - 1, np.nan)
    half = stdtrit(degrees, 0.5 + CONFIDENCE / 2) * deviation / np.sqrt(seeds)
    return mean - half, mean + half


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Summarise the long table over seeds.

    Returns:
        A row per cell and metric, in the order of `results`: KEYS, `mean`, `ci_low` and `ci_high` (the
        interval over seeds, missing for a single seed; cut to [0, 1] of a share and to at least 0 of an
        epsilon or of bits; the score interval of a share whose every seed is one trial), `seeds`, and the median over
        seeds of `n` and of the sampling interval's half-width (missing where the metrics file has none).
    """
    rows = results[KEYS].assign(
        value=results["value"],
        n=results["n"].astype("float64"),
        sampling_half_width=(results["ci_high"] - results["ci_low"]) / 2,
    )
    summary = (
        rows.groupby(KEYS, sort=False, dropna=False)
        .agg(
            mean=("value", "mean"),
            deviation=("value", "std"),
            lowest=("value", "min"),
            highest=("value", "max"),
            seeds=("value", "size"),
            n=("n", "median"),
            sampling_half_width=("sampling_half_width", "median"),
        )
        .reset_index()
    )
    # Rounding must not turn equal values into an interval.
    equal = (summary["lowest"] == summary["highest"]) & (summary["seeds"] > 1)
    summary.loc[equal, "mean"] = summary.loc[equal, "lowest"]
    summary.loc[equal, "deviation"] = 0.0
    summary["ci_low"], summary["ci_high"] = t_interval(
        summary["mean"].to_numpy(), summary["deviation"].to_numpy(), summary["seeds"].to_numpy()
    )
    # Of trials the spread is no news: it follows from the share.
    trials = (summary["unit"] == "fraction") & (summary["n"] == 1) & (summary["seeds"] > 1)
    score = wilson_interval(summary.loc[trials, "mean"].to_numpy(), summary.loc[trials, "seeds"].to_numpy())
    summary.loc[trials, "ci_low"], summary.loc[trials, "ci_high"] = score
    # A share cannot leave [0, 1], though the t interval of few seeds would.
    share = summary["unit"] == "fraction"
    for end in ("ci_low", "ci_high"):
        summary[end] = summary[end].mask(share, summary[end].clip(0.0, 1.0))
    # Nor can an epsilon, or an exposure, be below 0.
    positive = summary["unit"].isin(["epsilon", "bits"])
    summary["ci_low"] = summary["ci_low"].mask(positive, summary["ci_low"].clip(lower=0.0))
    summary["n"] = summary["n"].round().astype("Int64")
    summary["seeds"] = summary["seeds"].astype("Int64")
    return summary[[*KEYS, "mean", "ci_low", "ci_high", "seeds", "n", "sampling_half_width"]]


def headline(summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric over all groups, on the test split if it was measured there."""
    rows = summary[(summary["metric"] == metric) & summary["group"].isna()]
    splits = list(rows["split"].unique())
    return rows[rows["split"] == "test"] if "test" in splits else rows[rows["split"].isin(splits[:1])]
