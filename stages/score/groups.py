"""Group fairness: true and false positive rates by group, and the widest gap between two groups."""

import numpy as np
import pandas as pd

from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES, proportion

RATES = {"true_positive_rate": True, "false_positive_rate": False}


def group_rates(table: pd.DataFrame, positive: str, seed: int) -> dict[str, Measurement]:
    """Return both rates of each group and their gaps (Hardt et al. 2016: equalised odds asks for gaps of 0).

    Args:
        table: Columns group, label, predicted.
        positive: The label whose rates are compared. A group without examples of a rate's class has no such rate.
        seed: Of the bootstrap of the gaps.
    """
    measured: dict[str, Measurement] = {}
    for rate, of_positives in RATES.items():
        within = table[(table["label"] == positive) == of_positives]
        counts = (within["predicted"] == positive).groupby(within["group"]).agg(["sum", "count"])
        for group, row in counts.iterrows():
            measured[f"test/{rate}/{group}"] = proportion(int(row["sum"]), int(row["count"]))
        if len(counts) > 1:
            measured[f"test/{rate}_gap"] = gap(counts["sum"].to_numpy(), counts["count"].to_numpy(), seed)
    return measured


def gap(positives: np.ndarray, sizes: np.ndarray, seed: int) -> Measurement:
    """Return the largest minus the smallest rate, with a bootstrap interval over examples within groups.

    The gap of a finite sample is biased upwards: groups of equal true rate show one too. So the interval does
    not rest on the gaps of replicates but on their errors: no gap can differ from the true one by more than
    the groups' errors differ from each other. It is conservative, the more so the more groups there are.
    """
    rates = positives / sizes
    value = float(rates.max() - rates.min())
    # Smoothed, so that a rate of 0 or 1 in a small group is not taken for certain.
    smoothed = (positives + 0.5) / (sizes + 1)
    draws = np.random.default_rng(seed).binomial(sizes, smoothed, size=(BOOTSTRAP_REPLICATES, len(sizes)))
    errors = draws / sizes - smoothed
    half = float(np.percentile(errors.max(axis=1) - errors.min(axis=1), 100 * CONFIDENCE))
    return Measurement(value, int(sizes.sum()), max(0.0, value - half), min(1.0, value + half))
