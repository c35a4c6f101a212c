"""What is measured of a sample of examples, each with the 95% interval of sampling them.

Every stage that measures imports this, so it does without scipy.stats and scikit-learn, which take a second or two to
import. What has no interval of its own has that of the percentile bootstrap (Efron 1979).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from stages.common.measurements import CONFIDENCE, Measurement

Scores = NDArray[np.float64] | NDArray[np.int64]
BOOTSTRAP_REPLICATES = 1000
# Numbers drawn at once by a bootstrap: a gigabyte of them.
MOST_DRAWN = 2**27


def proportion(successes: int, n: int) -> Measurement:
    """Return successes / n with its exact interval (Clopper and Pearson 1934)."""
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion")
    low, high = clopper_pearson(np.array(successes), n)
    return Measurement(successes / n, n, float(low), float(high))


def clopper_pearson(successes: NDArray[np.int64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the exact 95% interval of each number of successes in n; half of the 5% beyond either end."""
    tail = (1 - CONFIDENCE) / 2
    # At no success and at n the beta distribution is a point.
    low = np.where(successes > 0, betaincinv(np.maximum(successes, 1), n - successes + 1, tail), 0.0)
    high = np.where(successes < n, betaincinv(successes + 1, np.maximum(n - successes, 1), 1 - tail), 1.0)
    return low, high


def difference(successes: int, n: int, others: int, m: int) -> Measurement:
    """Return successes / n - others / m with its hybrid score interval (Newcombe 1998, method 10)."""
    first, second = successes / n, others / m
    (low, high), (other_low, other_high) = _wilson(first, n), _wilson(second, m)
    value = first - second
    below, above = math.hypot(first - low, other_high - second), math.hypot(high - first, second - other_low)
    return Measurement(value, n + m, value - below, value + above)


def auc(positives: Scores, negatives: Scores) -> Measurement:
    """Return the area under the ROC, ties counting one half, with its interval (DeLong et al. 1988).

    The placement values are taken from ranks (Sun and Xu 2014), so the cost is that of sorting.

    Args:
        positives: (n,) scores of those that should score higher.
        negatives: (m,) scores of the others. There is no interval where either side has one score only.
    """
    # Of the libraries here, scipy and scikit-learn have the area without an interval.
    above = _placements(positives, negatives)
    below = 1 - _placements(negatives, positives)
    value, n = float(above.mean()), len(positives) + len(negatives)
    if min(len(positives), len(negatives)) < 2:
        return Measurement(value, n)
    variance = above.var(ddof=1) / len(positives) + below.var(ddof=1) / len(negatives)
    half = float(ndtri(0.5 + CONFIDENCE / 2) * np.sqrt(variance))
    return Measurement(value, n, max(0.0, value - half), min(1.0, value + half))


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: int, seed: int) -> Measurement:
    """Return the mean F1 over the labels that occur in `truth`, with a percentile bootstrap interval.

    A replicate is averaged over the labels that occur in it: a rare label that was not drawn has no F1.

    Args:
        truth: (n,) label indices below `labels`.
        predicted: (n,) label indices below `labels`.
        labels: Number of labels.
        seed: Of the bootstrap.
    """
    # Resampling n examples is one multinomial draw of the confusion matrix.
    confusion = np.bincount(truth * labels + predicted, minlength=labels * labels)
    [value] = _macro_f1(confusion[None])
    low, high = bootstrap_interval(_macro_f1, confusion, np.random.default_rng(seed))
    return Measurement(float(value), len(truth), low, high)


def span_f1(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], seed: int) -> Measurement:
    """Return micro F1 over exact spans of BIO tags, with a percentile bootstrap over texts."""
    counts = np.array(
        [[len(g & f), len(g) + len(f)] for g, f in zip(map(spans, gold), map(spans, found), strict=True)]
    ).reshape(-1, 2)
    return of_sums(lambda sums: 2 * _share(sums), counts, seed)


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return the (start, end, type) spans of BIO tags; an I- that continues nothing begins a span, as in conlleval."""
    found: set[tuple[int, int, str]] = set()
    start, kind = -1, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if start >= 0 and (prefix != "I" or name != kind):
            found.add((start, position, kind))
            start = -1
        if prefix in ("B", "I") and start < 0:
            start, kind = position, name
    return found


def perplexity(losses: NDArray[np.float64], predicted: NDArray[np.int64], seed: int) -> Measurement:
    """Return exp of the mean loss of all tokens, with a percentile bootstrap over texts.

    Args:
        losses: (n,) sums of the losses of each text's tokens, in nats.
        predicted: (n,) how many tokens those are.
        seed: Of the bootstrap.
    """
    return of_sums(lambda sums: np.exp(sums[:, 0] / sums[:, 1]), np.stack([losses, predicted], axis=1), seed)


def share(right: NDArray[np.int64], words: NDArray[np.int64], seed: int) -> Measurement:
    """Return the share of all words that are right, 0 of none, with a percentile bootstrap over texts.

    Args:
        right: (n,) how many words of each text are.
        words: (n,) how many it has.
        seed: Of the bootstrap.
    """
    return of_sums(_share, np.stack([right, words], axis=1), seed)


def mean(values: NDArray[np.float64], seed: int) -> Measurement:
    """Return the mean of a value of each of n texts, with a percentile bootstrap over texts."""
    return of_sums(lambda sums: sums[:, 0] / len(values), values[:, None], seed)


def of_sums(statistic: Callable[[NDArray[Any]], NDArray[np.float64]], terms: NDArray[Any], seed: int) -> Measurement:
    """Return a statistic of sums over examples, with a percentile bootstrap over examples.

    Args:
        statistic: (replicates, columns) sums to (replicates,).
        terms: (n, columns) what each example adds to them.
        seed: Of the bootstrap.
    """
    [value] = statistic(terms.sum(axis=0)[None])
    once = np.ones(len(terms), dtype=np.int64)
    low, high = bootstrap_interval(lambda times: statistic(times @ terms), once, np.random.default_rng(seed))
    return Measurement(float(value), len(terms), low, high)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    observed: NDArray[np.int64],
    draws: np.random.Generator,
) -> tuple[float, float]:
    """Return the ends of the percentile bootstrap interval of a statistic of rows.

    Args:
        statistic: (replicates, rows) how often each row is in a replicate, to (replicates,).
        observed: (rows,) how often each is in the sample: once, or as often as a class of like examples has some.
        draws: The generator of the replicates.
    """
    # scipy.stats.bootstrap draws the index of every example and gathers them; here a replicate is how often each row
    # was drawn, which makes sums over it one product, and is short for classes of like examples.
    n, at_once = int(observed.sum()), max(1, MOST_DRAWN // len(observed))
    replicates = [
        statistic(draws.multinomial(n, observed / n, size=min(at_once, BOOTSTRAP_REPLICATES - done)))
        for done in range(0, BOOTSTRAP_REPLICATES, at_once)
    ]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(replicates), [tail, 100 - tail])
    return float(low), float(high)


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def _placements(scores: Scores, others: Scores) -> NDArray[np.float64]:
    ordered = np.sort(others)
    less, not_more = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    placements: NDArray[np.float64] = (less + not_more) / (2 * len(others))
    return placements


def _macro_f1(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (replicates,) of (replicates, labels^2) confusion matrices."""
    labels = math.isqrt(confusions.shape[1])
    stack = confusions.reshape(-1, labels, labels)
    hits = np.einsum("bii->bi", stack)
    size = stack.sum(axis=2) + stack.sum(axis=1)
    f1 = np.divide(2 * hits, size, out=np.zeros(hits.shape), where=size > 0)
    occurs = stack.sum(axis=2) > 0
    scores: NDArray[np.float64] = (f1 * occurs).sum(axis=1) / occurs.sum(axis=1)
    return scores


def _share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(counts[:, 0], counts[:, 1], out=np.zeros(len(counts)), where=counts[:, 1] > 0)
