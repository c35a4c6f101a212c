"""Tests and intervals for results over seeds: what a verdict and a diff rest on.

The sample is always a handful of runs, so: t intervals and exact tests, never a bootstrap of three points.
How far a number depends on the examples it was measured on is another uncertainty, which the metrics files
hold; nothing here mixes the two.

On scipy.special: scipy.stats takes a second to import and a millisecond a test, and a comparison of two commits
asks thousands of times.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from stages.common.measurements import CONFIDENCE

# As many take a tenth of a second; beyond, the t test is as good.
MOST_SUMS = 2**20


@dataclass(frozen=True)
class Test:
    """What a test found.

    Args:
        name: Of the test, in words.
        estimate: The mean, or the difference of means, left less right.
        low: Lower end of its interval.
        high: Upper end.
        p: Two-sided, unless the test's name says otherwise.
        n: Pairs, or values on the smaller side.
        smallest_p: The smallest p that the test can reach with that many; 0 if there is no such limit.
    """

    name: str
    estimate: float
    low: float
    high: float
    p: float
    n: int
    smallest_p: float = 0.0


def resolution(examples: int) -> float:
    """Return the least standard deviation that a share of `examples` is taken to have over seeds: that of one example.

    Few seeds can well differ by the same number of examples, which shows no spread and proves nothing. Ours, and
    simulated: without it, most comparisons of three seeds of such shares find something where nothing is.
    """
    return 1 / examples


def mean_test(
    values: ArrayLike, centre: float = 0.0, confidence: float = CONFIDENCE, least_deviation: float = 0.0
) -> Test:
    """Test whether a mean is `centre`: one-sample t test and t interval (Student 1908).

    Args:
        values: (n,) one value per seed, n of 2 or more.
        centre: The mean under the null hypothesis.
        confidence: Of the interval.
        least_deviation: Standard deviation that the values have at least, see `resolution`; 0 if they are exact.
    """
    sample = np.asarray(values, dtype=float).tolist()
    n = len(sample)
    _at_least_two(n)
    if min(sample) == max(sample) and not least_deviation:
        # No spread to estimate: the values are what they are.
        return Test("t test", sample[0], sample[0], sample[0], float(sample[0] == centre), n)
    # On plain floats: on a handful of them numpy takes ten times as long, and a comparison asks thousands of times.
    mean = math.fsum(sample) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in sample) / (n - 1))
    error = max(deviation, least_deviation) / math.sqrt(n)
    half = _quantile(n - 1, confidence) * error
    p = 2 * float(stdtr(n - 1, -abs(mean - centre) / error))
    return Test("t test", mean, mean - half, mean + half, p, n)


def paired_test(
    left: ArrayLike, right: ArrayLike, confidence: float = CONFIDENCE, least_deviation: float = 0.0
) -> Test:
    """Test whether two sides with the same seeds differ: paired t test and interval of the mean difference.

    Args:
        left: (n,) one value per seed.
        right: (n,) of the same seeds, in the same order.
        confidence: Of the interval.
        least_deviation: Of the differences, see `mean_test`.
    """
    found = mean_test(_differences(left, right), confidence=confidence, least_deviation=least_deviation)
    return Test("paired t test", found.estimate, found.low, found.high, found.p, found.n)


def wilson_interval(
    share: NDArray[np.float64], trials: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% score interval of each share of successes (Wilson 1927).

    Args:
        share: (n,) successes / trials.
        trials: (n,) at least one.
    """
    z = ndtri(0.5 + CONFIDENCE / 2)
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / (1 + z**2 / trials)
    # At no success and at nothing but success an end is 0 or 1, but for rounding.
    return np.where(share == 0, 0.0, centre - half), np.where(share == 1, 1.0, centre + half)


def share_test(values: ArrayLike) -> Test:
    """Return the score interval of a share of trials, of which each value is one: 1 for a success, 0 for none."""
    sample = np.asarray(values, dtype=np.float64)
    _at_least_two(len(sample))
    low, high = wilson_interval(sample.mean(keepdims=True), np.array([len(sample)]))
    return Test("score interval", float(sample.mean()), float(low[0]), float(high[0]), 1.0, len(sample))


def sign_flip_test(left: ArrayLike, right: ArrayLike, confidence: float = CONFIDENCE) -> Test:
    """Test whether two sides with the same seeds differ: exact, all 2^n signs of the differences (Fisher 1935).

    Valid without normality if the differences are symmetric about zero under the null hypothesis. The smallest
    p is 2 / 2^n: .25 for 3 pairs, .0625 for 5, .002 for 10. The interval is the paired t interval.

    Args:
        left: (n,) one value per seed, n of 2 or more.
        right: (n,) of the same seeds, in the same order.
        confidence: Of the interval.

    Raises:
        ValueError: The signs give too many different sums: of values that are all different, from 21 pairs on.
    """
    differences = _differences(left, right)
    n = len(differences)
    interval = mean_test(differences, confidence=confidence)
    # The sums that there are, and the share of all signs that give each: of trials there are few.
    sums: NDArray[np.float64] = np.zeros(1)
    shares: NDArray[np.float64] = np.ones(1)
    for difference in differences:
        sums, place = np.unique(np.concatenate([sums + difference, sums - difference]), return_inverse=True)
        shares = np.bincount(place, np.concatenate([shares, shares]) / 2).astype(np.float64)
        if len(sums) > MOST_SUMS:
            raise ValueError(f"{n} pairs have too many sums; values that are all different have up to 20 pairs")
    observed = abs(differences.sum())
    # Rounding must not tell apart what the order of summing alone does.
    slack = 1e-9 * np.abs(differences).sum()
    p = float(shares[np.abs(sums) >= observed - slack].sum())
    return Test("exact sign-flip test", interval.estimate, interval.low, interval.high, p, n, 2.0 / 2**n)


def welch_test(left: tuple[float, float, int], right: tuple[float, float, int], confidence: float = CONFIDENCE) -> Test:
    """Test whether two means differ when seeds do not match or one side is published (Welch 1947).

    Args:
        left: Mean, standard deviation with n - 1 in the denominator, and n of 2 or more.
        right: The same of the other side.
        confidence: Of the interval of the difference, with the degrees of freedom of Welch and Satterthwaite.
    """
    (mean, deviation, n), (other_mean, other_deviation, other_n) = left, right
    _at_least_two(min(n, other_n))
    difference = mean - other_mean
    variance, other_variance = deviation**2 / n, other_deviation**2 / other_n
    error = float(np.sqrt(variance + other_variance))
    smaller = min(n, other_n)
    if error == 0:
        return Test("Welch's t test", difference, difference, difference, float(difference == 0), smaller)
    degrees = (variance + other_variance) ** 2 / (variance**2 / (n - 1) + other_variance**2 / (other_n - 1))
    half = float(stdtrit(degrees, 0.5 + confidence / 2)) * error
    p = 2 * float(stdtr(degrees, -abs(difference) / error))
    return Test("Welch's t test", difference, difference - half, difference + half, p, smaller)


def equivalence_test(
    left: ArrayLike, right: ArrayLike, margin: float, alpha: float = 1 - CONFIDENCE, least_deviation: float = 0.0
) -> Test:
    """Test whether two sides with the same seeds differ by less than a margin: TOST (Schuirmann 1987).

    A small p says that they are equal up to the margin. The interval is that at 1 - 2 alpha: it lies within
    the margin exactly when p is below alpha.

    Args:
        left: (n,) one value per seed.
        right: (n,) of the same seeds, in the same order.
        margin: Above 0, declared before the runs.
        alpha: Level of each of the two tests.
        least_deviation: Of the differences, see `mean_test`.
    """
    if not margin > 0:
        raise ValueError(f"a margin is above 0, not {margin}")
    differences = _differences(left, right)
    found = mean_test(differences, confidence=1 - 2 * alpha, least_deviation=least_deviation)
    error = max(_standard_error(differences), least_deviation / math.sqrt(len(differences)))
    if np.ptp(differences) == 0 and not least_deviation:
        p = float(abs(found.estimate) >= margin)
    else:
        # Of the two null hypotheses, beyond the one margin and beyond the other, the nearer one decides.
        p = float(stdtr(len(differences) - 1, (abs(found.estimate) - margin) / error))
    return Test("TOST", found.estimate, found.low, found.high, p, found.n)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust the p values of a family so that its chance of any false finding stays at the level (Holm 1979).

    Args:
        p_values: (n,) p values.

    Returns:
        (n,) adjusted p values in the same order, to be compared with the level itself.
    """
    raw = np.asarray(p_values, dtype=float)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    capped: NDArray[np.float64] = np.minimum(adjusted, 1.0)
    return capped


def rounding_interval(value: float, decimals: int) -> tuple[float, float]:
    """Return between which numbers lies what was rounded to `value`: all that a bare published mean says."""
    half = 0.5 * 10.0**-decimals
    return value - half, value + half


def _differences(left: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"pairs have two sides of the same length, not {one.shape} and {other.shape}")
    differences: NDArray[np.float64] = one - other
    return differences


@cache
def _quantile(degrees: int, confidence: float) -> float:
    return float(stdtrit(degrees, 0.5 + confidence / 2))


def _standard_error(sample: NDArray[np.float64]) -> float:
    return float(sample.std(ddof=1) / np.sqrt(len(sample)))


def _at_least_two(n: int) -> None:
    if n < 2:
        raise ValueError(f"{n} values have no spread; at least 2")
