"""Lower bounds on epsilon from what an attack finds: a training that stated less than such a bound stated wrongly.

Each holds with the confidence CONFIDENCE, over the coins of the experiment.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import binom

from stages.common.measurements import CONFIDENCE

PRECISION = 1e-3
LARGEST = 50.0
Counts = NDArray[np.int64]


def one_run(canaries: int, guesses: int, correct: int, delta: float) -> float:
    """Return the largest epsilon that this many correct guesses refute, from one training (Steinke et al. 2023).

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
    if _one_run_p_value(canaries, guesses, correct, 0.0, delta) > level:
        return 0.0
    low, high = 0.0, LARGEST
    while high - low > PRECISION:
        middle = (low + high) / 2
        refuted = _one_run_p_value(canaries, guesses, correct, middle, delta) <= level
        low, high = (middle, high) if refuted else (low, middle)
    return low


def _one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    right = 1 / (1 + np.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, right))
    steps = np.arange(1, correct + 1)
    gained = (binom.sf(correct - 1 - steps, guesses, right) - beta) / steps
    return beta + 2 * canaries * delta * float(max(gained.max(initial=0.0), 0.0))


def from_rates(
    true_positives: Counts, positives: int, false_positives: Counts, negatives: int, delta: float
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
    tail = (1 - CONFIDENCE) / 2
    # Where nothing or everything is above, the beta distribution is a point.
    low = np.where(
        true_positives > 0, betaincinv(np.maximum(true_positives, 1), positives - true_positives + 1, tail), 0.0
    )
    high = np.where(
        false_positives < negatives,
        betaincinv(false_positives + 1, np.maximum(negatives - false_positives, 1), 1 - tail),
        1.0,
    )
    bound: NDArray[np.float64] = np.log(np.maximum((low - delta) / high, 1.0))
    return bound
