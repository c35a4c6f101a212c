"""The ROC of an attack: the curve, and the true positives at a small false positive rate."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.measurements import Measurement
from stages.common.statistics import bootstrap_interval, proportion

Scores = NDArray[np.float64]
POINTS = 120


def curve(members: Scores, nonmembers: Scores) -> tuple[Scores, Scores]:
    """Return false and true positive rates, from (0, 0) to (1, 1), of guessing "member" above each threshold."""
    # As scikit-learn's roc_curve, which takes two seconds to import and no infinite scores.
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    # Counted before it is divided: 1 - 0.99 is more than 0.01 in floating point, and a step at 1% would be past it.
    false = (len(nonmembers) - np.searchsorted(np.sort(nonmembers), thresholds)) / len(nonmembers)
    true = (len(members) - np.searchsorted(np.sort(members), thresholds)) / len(members)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def true_positive_rate(members: Scores, nonmembers: Scores, false_positive_rate: float) -> Measurement:
    """Return the share of members above the lowest threshold whose false positive rate is at most the given one.

    The interval is Clopper and Pearson's over the members; the threshold is taken as given.
    """
    allowed = int(np.floor(false_positive_rate * len(nonmembers) + 1e-9))
    threshold = np.sort(nonmembers)[::-1][allowed] if allowed < len(nonmembers) else -np.inf
    return proportion(int((members > threshold).sum()), len(members))


def pooled_rate(
    scores: pd.DataFrame, column: str, false_positive_rate: float, draws: np.random.Generator
) -> Measurement:
    """Return the true positive rate over pooled scores, with a percentile bootstrap over examples.

    An example is scored under every seed, so examples are drawn, not scores; each replicate sets its own threshold.

    Args:
        scores: Columns example_id, member and `column`.
        column: Of the scores.
        false_positive_rate: At most this share of the non-members is above the threshold.
        draws: The generator of the bootstrap.
    """
    scores = scores.sort_values(column, ascending=False, kind="stable")
    example, names = pd.factorize(scores["example_id"])
    member, values = scores["member"].to_numpy(), scores[column].to_numpy()
    # Only what ends a run of equal scores is a threshold.
    ends = np.append(values[1:] != values[:-1], True)

    def rate(times: NDArray[np.int64]) -> float:
        weight = times[example]
        false, true = np.cumsum(weight * ~member), np.cumsum(weight * member)
        allowed = ends & (false <= false_positive_rate * false[-1] + 1e-9)
        return float(true[allowed][-1] / true[-1]) if allowed.any() else 0.0

    once = np.ones(len(names), dtype=np.int64)
    low, high = bootstrap_interval(lambda times: np.array([rate(each) for each in times]), once, draws)
    return Measurement(rate(once), int((~member).sum()), low, high)


def thinned(false: Scores, true: Scores) -> pd.DataFrame:
    """Return at most about 2 x POINTS points of a curve, dense at both scales of the false positive rate."""
    at = np.unique(np.concatenate([np.linspace(0, 1, POINTS), np.geomspace(1e-4, 1, POINTS)]))
    # The last point of the curve that is not to the right: a step function, never interpolated upwards.
    index = np.unique(np.searchsorted(false, at, side="right") - 1)
    return pd.DataFrame({"false_positive_rate": false[index], "true_positive_rate": true[index]})
