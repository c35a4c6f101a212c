"""Areas under the ROC of scores: of a sample, and of the replicates of a bootstrap."""

import numpy as np
from numpy.typing import NDArray

from stages.common.measurements import Measurement
from stages.common.statistics import auc

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]


def area(positives: Scores, negatives: Scores) -> Measurement:
    """Return the AUC with DeLong's interval; without one at 0 and at 1, where DeLong's is a point for any few."""
    found = auc(positives, negatives)
    return found if 0 < found.value < 1 else Measurement(found.value, found.n)


def resampled_areas(times: Rows, scores: Scores, positives: Rows, negatives: Rows) -> Scores:
    """Return (replicates,) AUCs, ties counting one half; NaN where no row of a side was drawn.

    Args:
        times: (replicates, n) how often each row is in a replicate.
        scores: (n,) of the rows.
        positives: Rows that should score higher.
        negatives: Those that should score lower.
    """
    ordered = negatives[np.argsort(scores[negatives])]
    drawn = np.cumsum(np.pad(times[:, ordered], ((0, 0), (1, 0))), axis=1)
    less, not_more = (np.searchsorted(scores[ordered], scores[positives], side) for side in ("left", "right"))
    above = times[:, positives]
    halves = (above * (drawn[:, less] + drawn[:, not_more])).sum(axis=1)
    pairs = above.sum(axis=1) * drawn[:, -1]
    found: Scores = np.divide(halves, 2 * pairs, out=np.full(len(times), np.nan), where=pairs > 0)
    return found
