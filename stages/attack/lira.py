"""LiRA, the likelihood ratio attack (Carlini et al. 2022, "Membership Inference Attacks From First Principles").

What shadow models say of an example is taken for Gaussian, once over those that saw it and once over those that did
not; an example is guessed to be a member if the attacked model speaks like the first. The signal is a logit, which is
nearer to a Gaussian than a probability.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Deviation = Callable[[Values, NDArray[np.bool_]], Values]
# Of a signal over models, so that one that does not move at all divides nothing by zero.
LEAST_DEVIATION = 1e-6


def online(observed: Values, shadows: Values, sees: NDArray[np.bool_], deviation: Deviation) -> Values:
    """Return the log likelihood ratio of "member" to "no member" (their equation 4).

    Args:
        observed: (n,) logits of the attacked model.
        shadows: (models, n) logits of the shadow models.
        sees: (models, n) whether a model saw an example; each example by two models or more, and not by two or more.
        deviation: `own_deviation` or `global_deviation`.
    """
    ways = (sees, ~sees)
    inside, outside = (_log_density(observed, _mean(shadows, way), deviation(shadows, way)) for way in ways)
    return inside - outside


def offline(observed: Values, shadows: Values, sees: NDArray[np.bool_], deviation: Deviation) -> Values:
    """Return how far each logit is above those of the models that did not see the example, in standard deviations.

    Their offline score is the Gaussian distribution function of it, which ranks examples alike. Arguments: `online`.
    """
    return (observed - _mean(shadows, ~sees)) / deviation(shadows, ~sees)


def own_deviation(shadows: Values, of: NDArray[np.bool_]) -> Values:
    """Return (n,) the standard deviation of each example over its models: for many shadow models, 64 or more."""
    squares = np.where(of, np.square(shadows - _mean(shadows, of)), 0.0).sum(axis=0)
    deviation: Values = np.maximum(np.sqrt(squares / (of.sum(axis=0) - 1)), LEAST_DEVIATION)
    return deviation


def global_deviation(shadows: Values, of: NDArray[np.bool_]) -> Values:
    """Return (n,) the same standard deviation for all, pooled over examples (their "fixed variance")."""
    squares = np.where(of, np.square(shadows - _mean(shadows, of)), 0.0).sum()
    pooled = np.sqrt(squares / (of.sum() - of.shape[1]))
    return np.full(of.shape[1], max(float(pooled), LEAST_DEVIATION))


def _mean(shadows: Values, of: NDArray[np.bool_]) -> Values:
    mean: Values = np.where(of, shadows, 0.0).sum(axis=0) / of.sum(axis=0)
    return mean


def _log_density(values: Values, mean: Values, deviation: Values) -> Values:
    # Without the constant, which a ratio has twice.
    return -0.5 * np.square((values - mean) / deviation) - np.log(deviation)
