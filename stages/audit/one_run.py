"""A lower bound on epsilon from one training: a training that stated less than it stated wrongly."""

import numpy as np
from scipy.stats import binom

from stages.common.measurements import CONFIDENCE

PRECISION = 1e-3
LARGEST = 50.0


def lower_bound(canaries: int, guesses: int, correct: int, delta: float) -> float:
    """Return the largest epsilon that this many correct guesses refute, at 95% over the coins (Steinke et al. 2023).

    Each canary was in the training data or not by a fair coin, and some are guessed. Were the training (epsilon,
    delta)-private, `correct` would be at most Binomial(guesses, e^epsilon / (1 + e^epsilon)) but for delta: theorem 5.2
    of "Privacy Auditing with One (1) Training Run", for the replacement of a canary's coin, which adding or removing
    one example is.

    Args:
        canaries: Whose coins were thrown.
        guesses: Of these, how many the attack committed itself to.
        correct: Of these, how many were right.
        delta: Of the guarantee under test.
    """
    level = 1 - CONFIDENCE
    if _p_value(canaries, guesses, correct, 0.0, delta) > level:
        return 0.0
    low, high = 0.0, LARGEST
    while high - low > PRECISION:
        middle = (low + high) / 2
        refuted = _p_value(canaries, guesses, correct, middle, delta) <= level
        low, high = (middle, high) if refuted else (low, middle)
    return low


def _p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    right = 1 / (1 + np.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, right))
    steps = np.arange(1, correct + 1)
    gained = (binom.sf(correct - 1 - steps, guesses, right) - beta) / steps
    return beta + 2 * canaries * delta * float(max(gained.max(initial=0.0), 0.0))
