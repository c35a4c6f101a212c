"""RMIA, the robust membership inference attack (Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference").

An example's probability under the attacked model is divided by that under reference models. Their score is the share of
a population of other examples whose ratio is no larger (equation 3; gamma 1): a rising function of the ratio. So the
ratio ranks examples as their score does, without the ties that a small population makes at the top, where it counts.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from stages.common.statistics import auc

Values = NDArray[np.float64]
GRID = np.linspace(0.0, 1.0, 11)


def online(observed: Values, shadows: Values, sees: NDArray[np.bool_]) -> Values:
    """Return the log ratio of each example, its reference the mean of models that saw it and of models that did not.

    Args:
        observed: (n,) log-probabilities of the attacked model.
        shadows: (models, n) log-probabilities of the shadow models.
        sees: (models, n) whether a model saw an example; each example by one model or more, and not by one or more.
    """
    reference = np.logaddexp(_log_mean(shadows, sees), _log_mean(shadows, ~sees)) - np.log(2)
    ratio: Values = observed - reference
    return ratio


def offline(observed: Values, shadows: Values, sees: NDArray[np.bool_]) -> Values:
    """Return the same from models that did not see the example: ((1 + a) p_out + 1 - a) / 2 stands for the mean.

    `a` is what tells the examples of one shadow model best, with the others as its references. Arguments: `online`.
    """
    first, rows, tried = shadows[0], sees[0], _log_mean(shadows[1:], ~sees[1:])
    ratios = [first - _reference(tried, a) for a in GRID]
    best = int(np.argmax([auc(ratio[rows], ratio[~rows]).value for ratio in ratios]))
    return observed - _reference(_log_mean(shadows, ~sees), GRID[best])


def _reference(outside: Values, a: float) -> Values:
    with np.errstate(divide="ignore"):  # of a = 1 the second term is 0
        reference: Values = np.logaddexp(np.log1p(a) + outside, np.log(1 - a)) - np.log(2)
    return reference


def _log_mean(shadows: Values, of: NDArray[np.bool_]) -> Values:
    mean: Values = logsumexp(shadows, axis=0, b=of) - np.log(of.sum(axis=0))
    return mean
