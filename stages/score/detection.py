"""How well a score tells some examples from others, and how much better than another score of the same examples."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES, auc, of_sums

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
Counts = NDArray[np.int64]


def area(scores: Scores, truth: Truth) -> Measurement:
    """Return the AUC, ties counting one half; without an interval where DeLong's is a point for any few examples.

    Args:
        scores: (n,)
        truth: (n,) which of them should score higher, some but not all.
    """
    found = auc(scores[truth], scores[~truth])
    return found if 0 < found.value < 1 else Measurement(found.value, found.n)


def area_gain(scores: Scores, others: Scores, truth: Truth, seed: int) -> Measurement:
    """Return the AUC of scores less that of others, with a percentile bootstrap of the same examples for both.

    Examples are drawn within either side of the truth, so that every replicate has both.
    """
    draws = np.random.default_rng(seed)
    of_sides = [
        draws.multinomial(size, np.full(size, 1 / size), size=BOOTSTRAP_REPLICATES)
        for size in (int(truth.sum()), int((~truth).sum()))
    ]
    once = [np.ones((1, each.shape[1]), dtype=np.int64) for each in of_sides]
    [value], gains = (_areas(scores, truth, *times) - _areas(others, truth, *times) for times in (once, of_sides))
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


def _areas(scores: Scores, truth: Truth, of_true: Counts, of_others: Counts) -> Scores:
    """Return (replicates,) AUCs of samples that have each example so many times: (replicates, n of its side)."""
    higher, lower = scores[truth], np.sort(scores[~truth])
    order = np.argsort(scores[~truth], kind="stable")
    sums = np.concatenate([np.zeros((len(of_others), 1)), of_others[:, order].cumsum(axis=1)], axis=1)
    below = (sums[:, np.searchsorted(lower, higher, "left")] + sums[:, np.searchsorted(lower, higher, "right")]) / 2
    areas: Scores = (of_true * below).sum(axis=1) / (len(higher) * len(lower))
    return areas


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
