"""How well members and non-members are told apart, and what epsilon that speaks for."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.attack import roc
from stages.common.measurements import Measurement
from stages.common.statistics import auc, clopper_pearson
from stages.common.streams import generator

# Below this many non-members, 0.1% of them is too few to set a threshold by.
NONMEMBERS_FOR_0_1_PERCENT = 10_000


def metric(method: str, name: str) -> str:
    """Return the name of a metric of a method; that of the loss has none before it."""
    return name if method == "loss" else f"{method}_{name}"


def measure(scores: pd.DataFrame, methods: Sequence[str]) -> dict[str, Measurement]:
    """Return the AUC of every column of scores and, for what looks at all parts, the true positive rate at 1%.

    Args:
        scores: Columns member (bool), and `method` or `method/part` for each way of scoring.
        methods: Those that look at all parts.
    """
    measured = {}
    for column in scores.columns.drop(["seed", "example_id", "member"]):
        members, nonmembers = sides(scores, column)
        method, _, part = column.partition("/")
        measured[f"pool/{metric(method, 'auc')}" + f"/{part}" * bool(part)] = auc(members, nonmembers)
        if column in methods:
            rate = roc.true_positive_rate(members, nonmembers, 0.01)
            measured[f"pool/{metric(method, 'true_positive_rate_at_1_percent')}"] = rate
    return measured


def measure_pooled(scores: pd.DataFrame, methods: Sequence[str], seed: int) -> dict[str, Measurement]:
    """Return the true positive rate at 0.1% over the scores of all seeds, if their non-members are enough for it.

    Args:
        scores: As for `measure`, of all seeds.
        methods: Those that look at all parts.
        seed: Of the bootstrap.
    """
    if (~scores["member"]).sum() < NONMEMBERS_FOR_0_1_PERCENT:
        return {}
    draws = generator(seed, "bootstrap of pooled scores")
    name = "true_positive_rate_at_0_1_percent"
    return {f"pooled/{metric(method, name)}": roc.pooled_rate(scores, method, 0.001, draws) for method in methods}


def estimated_epsilon(scores: pd.DataFrame, others: pd.DataFrame, method: str, delta: float) -> Measurement:
    """Return the epsilon that the rates on `scores` speak for, at the threshold that speaks for most on `others`.

    Args:
        scores: Of one seed: columns member and `method`.
        others: Of another seed: the threshold must not be set on what it is judged by.
        method: The column.
        delta: Of the guarantee, 0 where there is none.
    """
    members, nonmembers = sides(others, method)
    thresholds = np.unique(np.concatenate([members, nonmembers]))
    best = thresholds[int(np.argmax(_from_scores(members, nonmembers, thresholds, delta)))]
    return Measurement(float(_from_scores(*sides(scores, method), np.array([best]), delta)[0]), len(scores))


def epsilon_from_rates(
    true_positives: NDArray[np.int64], positives: int, false_positives: NDArray[np.int64], negatives: int, delta: float
) -> NDArray[np.float64]:
    """Return epsilon from the rates of a threshold that was set on other data: log((TPR - delta) / FPR), at least 0.

    Either rate is at the end of its exact one-sided interval (Clopper and Pearson 1934), at half the level each. The
    examples are taken for independent, as they are over many trainings; within one training it is an estimate.

    Args:
        true_positives: Members above each threshold.
        positives: Members.
        false_positives: Non-members above each threshold.
        negatives: Non-members.
        delta: Of the guarantee under test.
    """
    low, _ = clopper_pearson(true_positives, positives)
    _, high = clopper_pearson(false_positives, negatives)
    bound: NDArray[np.float64] = np.log(np.maximum((low - delta) / high, 1.0))
    return bound


def sides(scores: pd.DataFrame, column: str) -> tuple[roc.Scores, roc.Scores]:
    """Return the scores of members and of non-members."""
    return scores.loc[scores["member"], column].to_numpy(), scores.loc[~scores["member"], column].to_numpy()


def roc_points(scores: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the thinned ROC of each method: columns method, false_positive_rate, true_positive_rate."""
    return pd.concat(
        [roc.thinned(*roc.curve(*sides(scores, method))).assign(method=method) for method in methods], ignore_index=True
    )


def _from_scores(members: roc.Scores, nonmembers: roc.Scores, thresholds: roc.Scores, delta: float) -> roc.Scores:
    above = [len(side) - np.searchsorted(np.sort(side), thresholds, side="right") for side in (members, nonmembers)]
    return epsilon_from_rates(above[0], len(members), above[1], len(nonmembers), delta)
