"""Correlations over a handful of models: coefficients, intervals, tests, power, and what a third variable explains.

A resample is written as how often each model is in it, which makes the coefficients of all resamples one product of
matrices; scipy.stats has none with such weights. Nothing is drawn but from a seed.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, hyp2f1, stdtr, stdtrit

from stages.common.measurements import CONFIDENCE

Values = NDArray[np.float64]
# In this order wherever three values stand for them.
COEFFICIENTS = ("pearson", "spearman", "kendall")
REPLICATES = 2000
PERMUTATIONS = 9999
# From so many models on the usual approximations are as good as permutations.
USUAL_TESTS = 20
# Of up to so many models all orders are tried.
ALL_ORDERS = 7
# Fewer say nothing: of four, the smallest p of two tails is .08.
LEAST_MODELS = 4


def coefficients(x: Values, y: Values, times: NDArray[np.int64]) -> Values:
    """Return Pearson's r, Spearman's rho and Kendall's tau-b of resampled models.

    Args:
        x: (n,) a value of each model.
        y: (n,) another.
        times: (resamples, n) how often each model is in a resample; ones for the models as they are.

    Returns:
        (resamples, 3), NaN where either side has one value only.
    """
    kendall = _sum_of_pairs(times, _signs(x) * _signs(y))
    pairs = _sum_of_pairs(times, np.abs(_signs(x))) * _sum_of_pairs(times, np.abs(_signs(y)))
    return np.stack(
        [
            _pearson(_standard(x), _standard(y), times),
            _pearson(_ranks(x, times), _ranks(y, times), times),
            np.divide(kendall, np.sqrt(pairs), out=np.full(len(times), np.nan), where=pairs > 0),
        ],
        axis=1,
    )


def slopes(x: Values, y: Values, times: NDArray[np.int64]) -> Values:
    """Return (resamples,) by how much y rises for one unit of x, by least squares; NaN where x has one value only."""
    x, y, size = x - x.mean(), y - y.mean(), times.sum(axis=1)
    together = times @ (x * y) - (times @ x) * (times @ y) / size
    spread = times @ x**2 - (times @ x) ** 2 / size
    there = spread > 1e-9 * (x**2).max()
    found: Values = np.divide(together, spread, out=np.full(len(times), np.nan), where=there)
    return found


def resamples(blocks: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return how often each model is in each replicate of a bootstrap that draws whole blocks of models.

    Args:
        blocks: (n,) the block of each model, from 0 on; each its own for the ordinary bootstrap.
        seed: Of the draws.

    Returns:
        (REPLICATES, n), or (0, n) of fewer than LEAST_MODELS blocks, which say nothing of a spread.
    """
    _, places = np.unique(blocks, return_inverse=True)
    n = int(places.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=REPLICATES if n >= LEAST_MODELS else 0)
    times: NDArray[np.int64] = drawn[:, places]
    return times


def without_each(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (resamples, n) the models without each block in turn, where LEAST_MODELS are left."""
    times = (np.unique(blocks)[:, None] != blocks[None]).astype(np.int64)
    kept: NDArray[np.int64] = times[times.sum(axis=1) >= LEAST_MODELS]
    return kept


def percentiles(replicates: Values) -> tuple[float, float]:
    """Return the ends of the percentile interval (Efron 1979) of (replicates,), those that are NaN left out."""
    there = replicates[~np.isnan(replicates)]
    if not len(there):
        return math.nan, math.nan
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(there, [tail, 100 - tail])
    return float(low), float(high)


def p_values(x: Values, y: Values, seed: int) -> Values:
    """Return the two-sided p of no relation, by each of COEFFICIENTS.

    Of fewer than USUAL_TESTS models by permutation: of all orders up to ALL_ORDERS models, else of PERMUTATIONS random
    ones and the observed one (Phipson and Smyth 2010). Otherwise as scipy.stats does: by t, and Kendall's own.
    All take the models as independent.

    Args:
        x: (n,) values that are not all the same.
        y: (n,) the same.
        seed: Of the random orders.
    """
    n = len(x)
    if n >= USUAL_TESTS:
        # It takes a second to import, and most reports ask for none of it.
        from scipy import stats

        return np.array([test(x, y).pvalue for test in (stats.pearsonr, stats.spearmanr, stats.kendalltau)])
    if n <= ALL_ORDERS:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        drawn = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)
        orders = np.concatenate([np.arange(n)[None], drawn])
    # An order changes the numerators alone.
    once = np.ones((1, n), dtype=np.int64)
    of_ranks = [_standard(_ranks(side, once)[0]) for side in (x, y)]
    signs = _signs(y)[orders[:, :, None], orders[:, None, :]]
    found = np.stack(
        [
            _standard(y)[orders] @ _standard(x),
            of_ranks[1][orders] @ of_ranks[0],
            (signs * _signs(x)).sum(axis=(1, 2)),
        ]
    )
    # The observed order comes first; rounding must not tell it from its like.
    reached: Values = (np.abs(found) >= np.abs(found[:, :1]) - 1e-9).mean(axis=1)
    return reached


def partial_correlation(x: Values, y: Values, controls: Values) -> tuple[float, float]:
    """Return Pearson's r of what is left of x and y once the controls are regressed out, and its p by t.

    Args:
        x: (n,) a value of each model.
        y: (n,) another.
        controls: (n, k) what is held fixed.

    Returns:
        r and p; NaN where no degree of freedom is left, n - 2 less the rank of the controls, or nothing of x or y.
    """
    design = np.column_stack([np.ones(len(x)), controls])
    freedom = len(x) - 1 - int(np.linalg.matrix_rank(design))
    if freedom <= 0:
        return math.nan, math.nan
    left = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (x, y)]
    # What is explained whole leaves rounding.
    if any(np.linalg.norm(rest) <= 1e-9 * np.linalg.norm(side) for rest, side in zip(left, (x, y), strict=True)):
        return math.nan, math.nan
    r = float(np.clip(left[0] @ left[1] / (np.linalg.norm(left[0]) * np.linalg.norm(left[1])), -1, 1))
    t = math.inf if abs(r) == 1 else abs(r) * math.sqrt(freedom / (1 - r**2))
    return r, 2 * float(stdtr(freedom, -t))


def critical_correlation(n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Return the least |r| of n models that is significant at a two-sided level, by t; NaN of fewer than 3."""
    if n < 3:
        return math.nan
    t = float(stdtrit(n - 2, 1 - alpha / 2))
    return t / math.sqrt(n - 2 + t**2)


def power(n: int, rho: float, alpha: float = 1 - CONFIDENCE) -> float:
    """Return how likely Pearson's r of n models is significant when the true one is rho, of bivariate normal values.

    From the exact density of r (Hotelling 1953). Fisher's z, the usual short cut, gives .59 for .62 at n = 19.
    NaN of fewer than LEAST_MODELS.
    """
    if n < LEAST_MODELS:
        return math.nan
    # It is slow to import, and every command reads the settings of agreement, which import this module.
    from scipy import integrate

    constant = math.log(n - 2) + gammaln(n - 1) - gammaln(n - 0.5) - math.log(2 * math.pi) / 2

    def density(r: float) -> float:
        exponent = constant + (n - 1) / 2 * math.log1p(-(rho**2)) + (n - 4) / 2 * math.log1p(-(r**2))
        exponent += (1.5 - n) * math.log1p(-rho * r)
        return float(math.exp(exponent) * hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2))

    inside, _ = integrate.quad(density, -critical_correlation(n, alpha), critical_correlation(n, alpha))
    return 1 - float(inside)


def _standard(values: Values) -> Values:
    centred: Values = values - values.mean()
    return centred / (centred.std() or 1.0)


def _signs(values: Values) -> Values:
    signs: Values = np.sign(values[:, None] - values[None])
    return signs


def _sum_of_pairs(times: NDArray[np.int64], terms: Values) -> Values:
    summed: Values = ((times @ terms) * times).sum(axis=1)
    return summed


def _ranks(values: Values, times: NDArray[np.int64]) -> Values:
    """Return (resamples, n) the rank of each model within each resample, ties in the middle, as shares."""
    below = (values[:, None] < values[None]) + (values[:, None] == values[None]) / 2
    ranks: Values = times @ below / times.sum(axis=1, keepdims=True)
    return ranks


def _pearson(x: Values, y: Values, times: NDArray[np.int64]) -> Values:
    """Return (resamples,) of values of the order of 1, (n,) or (resamples, n)."""
    size = times.sum(axis=1, keepdims=True)
    x, y = (side - (times * side).sum(axis=1, keepdims=True) / size for side in (x, y))
    spreads = (times * x**2).sum(axis=1) * (times * y**2).sum(axis=1)
    together = (times * x * y).sum(axis=1)
    found: Values = np.divide(together, np.sqrt(spreads), out=np.full(len(times), np.nan), where=spreads > 1e-12)
    return found.clip(-1, 1)
