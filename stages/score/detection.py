"""How well a score tells some examples from others, and how much better than another score of the same examples."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES, of_sums
from stages.common.streams import generator
from stages.score.areas import Scores, resampled_areas

Truth = NDArray[np.bool_]


def area_gain(scores: Scores, others: Scores, truth: Truth, seed: int) -> Measurement:
    """Return the AUC of scores less that of others, with a percentile bootstrap of the same examples for both.

    Examples are drawn within either side of the truth, so that every replicate has both.

    Args:
        scores: (n,)
        others: (n,) of the same examples.
        truth: (n,) which of them should score higher, some but not all.
        seed: Of the bootstrap.
    """
    sides = np.flatnonzero(truth), np.flatnonzero(~truth)
    draws, times = generator(seed, "examples of a gain"), np.zeros((BOOTSTRAP_REPLICATES, len(truth)), dtype=np.int64)
    for side in sides:
        times[:, side] = draws.multinomial(len(side), np.full(len(side), 1 / len(side)), size=BOOTSTRAP_REPLICATES)
    once = np.ones((1, len(truth)), dtype=np.int64)
    [value], gains = (
        resampled_areas(each, scores, *sides) - resampled_areas(each, others, *sides) for each in (once, times)
    )
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(gains, [tail, 100 - tail])
    return Measurement(float(value), len(truth), float(low), float(high))


def correlation(scores: Scores, truth: Truth, seed: int) -> Measurement | None:
    """Return the point-biserial correlation, with a percentile bootstrap; None if all scores are equal."""
    if np.ptp(scores) == 0:
        return None
    return of_sums(_pearson, _terms(scores, truth.astype(np.float64)), seed)


def correlation_gain(scores: Scores, others: Scores, truth: Truth, seed: int) -> Measurement:
    """Return the point-biserial correlation of scores less that of others, 0 of those that are all equal; paired."""
    terms = [_terms(each, truth.astype(np.float64)) for each in (scores, others)]
    width = terms[0].shape[1]
    both = np.concatenate(terms, axis=1)
    return of_sums(lambda sums: _pearson(sums[:, :width]) - _pearson(sums[:, width:]), both, seed)


def rank_correlation(scores: Scores, others: Scores, seed: int) -> Measurement | None:
    """Return Spearman's correlation, with a percentile bootstrap of the ranks; None if all of either are equal."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return None
    return of_sums(_pearson, _terms(rankdata(scores), rankdata(others)), seed)


def _terms(x: Scores, y: Scores) -> Scores:
    """Return (n, 6) what each example adds to the sums that a correlation is made of."""
    # About their means and of unit spread, so that sums lose no digits.
    x, y = ((each - each.mean()) / (each.std() or 1.0) for each in (x, y))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: Scores) -> Scores:
    """Return (replicates,) correlations of sums (replicates, 6); 0 where either is constant."""
    n, x, y, xx, yy, xy = sums.T
    spread = np.sqrt(np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0))
    found: Scores = np.divide(n * xy - x * y, spread, out=np.zeros(len(sums)), where=spread > 1e-9 * n * n)
    return found
