"""Association tests of embeddings: WEAT of words, SEAT of sentences, CEAT of words in many contexts each.

All three ask whether the targets X are nearer to the attributes A than to B, as against the targets Y. In them the
association of a target w is s(w) = mean over a in A of cos(w, a) - mean over b in B of cos(w, b).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from stages.common.errors import InputError, SettingError
from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES, proportion
from stages.common.streams import generator
from stages.score.settings import CombiningSettings

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating[Any]]
PERMUTATIONS = 100_000
# Columns of the vectors at a time, and bytes of them that are gathered at a time: both stay in a processor's caches.
COLUMNS = 128
GATHERED = 2**20
# Numbers of a bootstrap, or of permutations, at a time.
AT_ONCE = 2**20
# Of a set that is resampled: with replicates of two there are three.
LEAST_WORDS = 3
# Cosines that differ by no more than this many roundings are equal.
ROUNDINGS = 16


@dataclass(frozen=True)
class Stimuli:
    """The words of one test: two sets of targets, X and Y, and two of attributes, A and B."""

    x: tuple[str, ...]
    y: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]

    def sets(self) -> dict[str, tuple[str, ...]]:
        """Return the four sets by the names that the papers give them."""
        return {"X": self.x, "Y": self.y, "A": self.a, "B": self.b}

    def words(self) -> list[str]:
        """Return all words, each once."""
        return list(dict.fromkeys(word for some in self.sets().values() for word in some))


@dataclass(frozen=True)
class Association:
    """What came of a WEAT or a SEAT.

    Attributes:
        effect_size: Above 0 if X is nearer to A; n target words, and the interval of drawing others like them.
        p_value: One-sided, of no difference between X and Y; n partitions. Where they were drawn, the interval of that.
        exact: Whether those are all partitions there are.
        missing: Set -> its words that have no vector and had no part in it; no key for a set without any.
    """

    effect_size: Measurement
    p_value: Measurement
    exact: bool
    missing: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class RandomEffects:
    """Effect sizes combined in a random-effects model (DerSimonian and Laird 1986), each number of the shape (...).

    Attributes:
        heterogeneity: Q, the weighted squares about the fixed-effect mean.
        scale: c, what Q above its degrees of freedom is divided by.
        between_variance: tau squared, at least 0.
        effect_size: The combined effect size.
        standard_error: Of the combined effect size.
    """

    heterogeneity: Floats
    scale: Floats
    between_variance: Floats
    effect_size: Floats
    standard_error: Floats


@dataclass(frozen=True)
class CombinedAssociation:
    """What came of a CEAT.

    Attributes:
        effect_size: The combined one; n target words, and the interval of drawing others like them.
        p_value: Of a combined effect size of 0, given the words: the more samples, the smaller (docs/metrics.md).
        model: The random-effects model.
        effect_sizes: (N,) of each sample of contexts.
        missing: Set -> its words that have no context and had no part in it; no key for a set without any.
        drawn_again: Set -> its words with fewer than N contexts, which were drawn with replacement although the setting
            was without; no key for a set without any.
    """

    effect_size: Measurement
    p_value: float
    model: RandomEffects
    effect_sizes: Floats
    missing: dict[str, tuple[str, ...]]
    drawn_again: dict[str, tuple[str, ...]]


def weat(stimuli: Stimuli, vectors: Mapping[str, Vectors], seed: int, permutations: int = PERMUTATIONS) -> Association:
    """Return effect size and p of the word embedding association test (Caliskan et al. 2017).

    Args:
        stimuli: Of the test.
        vectors: Word -> (dimension,) its vector, of any length but 0; a word that is not in it is reported as missing.
        seed: Of the bootstrap over words, and of the partitions that are drawn.
        permutations: Partitions of X and Y that are compared: all there are, if those are no more.

    Raises:
        InputError: Fewer than two words of X or of Y, or none of A or of B, have a vector; a vector is zero or not
            finite; all targets are associated alike.
    """
    words, missing = _known(stimuli, vectors)
    units = {name: _units([vectors[word][None] for word in some], some) for name, some in words.items()}
    return _tested(units, (len(words["X"]), len(words["Y"])), seed, permutations, missing)


def seat(
    stimuli: Stimuli,
    target_templates: Sequence[str],
    attribute_templates: Sequence[str],
    embed: Callable[[Sequence[str]], Vectors],
    seed: int,
    permutations: int = PERMUTATIONS,
) -> Association:
    """Return effect size and p of the sentence encoder association test (May et al. 2019): WEAT of filled templates.

    Sentences are the stimuli of the effect size and, as in the paper, of the partitions. The interval is over words,
    since the sentences of one word are much alike.

    Args:
        stimuli: Of the test; all have sentences, so none is missing.
        target_templates: What X and Y are filled into, with one {} each.
        attribute_templates: The same for A and B.
        embed: n sentences to their (n, dimension) vectors.
        seed: Of the bootstrap over words, and of the partitions that are drawn.
        permutations: Partitions of the sentences of X and Y that are compared: all there are, if those are no more.

    Raises:
        SettingError: A template has not one {}.
        InputError: As `weat`.
    """
    words, missing = _known(stimuli, dict.fromkeys(word for some in stimuli.sets().values() for word in some))
    sentences = {
        name: filled(some, target_templates if name in "XY" else attribute_templates) for name, some in words.items()
    }
    every = [sentence for some in sentences.values() for sentence in some]
    ends = np.cumsum([len(some) for some in sentences.values()])[:-1]
    units = dict(zip(sentences, np.split(_units([embed(every)], every), ends), strict=True))
    return _tested(units, (len(words["X"]), len(words["Y"])), seed, permutations, missing)


def filled(words: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every template filled with every word, those of one word together; SettingError if one has not one {}."""
    for template in templates:
        if template.count("{}") != 1:
            raise SettingError("templates", repr(template), "a template has one {}, where the word goes")
    if not templates:
        raise SettingError("templates", "none", "give at least one, with a {} where the word goes")
    return [template.replace("{}", word) for word in words for template in templates]


def ceat(
    stimuli: Stimuli, contexts: Mapping[str, Vectors], settings: CombiningSettings, seed: int
) -> CombinedAssociation:
    """Return the contextualised embedding association test (Guo and Caliskan 2021).

    Args:
        stimuli: Of the test.
        contexts: Word -> (n, dimension) its vectors in n contexts; n differs from word to word, and a word that is not
            in it, or has no row, is reported as missing. Samples are computed in their precision.
        settings: Of sampling and combining.
        seed: Of the samples, and of the bootstrap over words.

    Raises:
        InputError: As `weat`; all targets are associated alike in a sample.
    """
    words, missing = _known(stimuli, {word: None for word, rows in contexts.items() if len(rows)})
    first, second = len(words["X"]), len(words["Y"])
    found = [contexts[word] for some in words.values() for word in some]
    counts = [len(rows) for rows in found]
    draws = draw_contexts(counts, settings, generator(seed, "contexts of CEAT"))
    table = _units(found, [word for some in words.values() for word in some], counts)
    sampled = sampled_associations(table, counts, draws, *(len(some) for some in words.values()))

    def combined(effect_sizes: Floats, spreads: Floats) -> RandomEffects:
        if settings.variance == "effect_size":
            # One for all samples, at their mean: by its own variance, which falls with its size, a sample would count
            # the more the farther it is from 0.
            common = sampling_variance(effect_sizes.mean(axis=0), first, second)
            return random_effects(effect_sizes, np.broadcast_to(common, effect_sizes.shape))
        return random_effects(effect_sizes, spreads**2)

    effect_sizes, spreads = _effect_sizes(sampled, first, _rounding(table))
    model = combined(effect_sizes, spreads)
    again = settings.sampling == "without_replacement"
    low, high = _interval(sampled, first, second, 1, lambda *each: combined(*each).effect_size, seed)
    return CombinedAssociation(
        Measurement(float(model.effect_size), first + second, low, high),
        p_value(model, settings.sides),
        model,
        effect_sizes,
        missing,
        _with_fewer(words, contexts, settings.samples) if again else {},
    )


def draw_contexts(counts: Sequence[int], settings: CombiningSettings, draws: np.random.Generator) -> NDArray[np.int64]:
    """Return (N, words) which context of each word is in each sample.

    Args:
        counts: How many contexts each word has.
        settings: Without replacement, a word with N contexts or more has none of them twice.
        draws: The generator of the samples.
    """
    n = settings.samples
    drawn = [
        draws.choice(count, n, replace=settings.sampling == "with_replacement" or count < n, shuffle=True)
        for count in counts
    ]
    return np.stack(drawn, axis=1)


def sampled_associations(
    table: Vectors, counts: Sequence[int], draws: NDArray[np.int64], x: int, y: int, a: int, b: int
) -> Floats:
    """Return (N, x + y) the association of each target in each sample of contexts.

    The mean cosine with A less that with B is one inner product, with the mean of A's unit vectors less that of B's. So
    a sample costs as much as reading the vectors drawn. Held at a time are a copy of some columns of the table, and
    no more than a megabyte of vectors drawn.

    Args:
        table: (contexts, dimension) unit vectors, those of one word together, in the order of X, Y, A and B.
        counts: How many of them each word has.
        draws: (N, words) which of its contexts a word has in a sample.
        x: Words of X.
        y: Words of Y.
        a: Words of A.
        b: Words of B.
    """
    rows = draws + np.concatenate([[0], np.cumsum(counts)[:-1]])
    targets, attributes = (np.ascontiguousarray(some) for some in np.split(rows, [x + y], axis=1))
    weights = np.concatenate([np.full(a, 1 / a), np.full(b, -1 / b)]).astype(table.dtype)
    sampled = np.zeros((len(draws), x + y))
    gathered = max(x + y, a + b) * COLUMNS
    at_once = max(1, GATHERED // (gathered * table.itemsize))
    # One buffer for all, since the memory of a new one is paid for page by page; the mode lets numpy write into it.
    buffer = np.empty(at_once * gathered, dtype=table.dtype)

    def drawn(columns: Vectors, some: NDArray[np.int64]) -> Vectors:
        out = buffer[: some.size * columns.shape[1]].reshape(*some.shape, -1)
        return np.take(columns, some, axis=0, out=out, mode="clip")

    for column in range(0, table.shape[1], COLUMNS):
        columns = np.ascontiguousarray(table[:, column : column + COLUMNS])
        for start in range(0, len(draws), at_once):
            samples = slice(start, start + at_once)
            directions = weights @ drawn(columns, attributes[samples])
            sampled[samples] += (drawn(columns, targets[samples]) @ directions[..., None])[..., 0]
    return sampled


def random_effects(effect_sizes: Floats, variances: Floats) -> RandomEffects:
    """Return N effect sizes combined in a random-effects model (DerSimonian and Laird 1986).

    Args:
        effect_sizes: (N, ...)
        variances: (N, ...) of each within its sample, above 0.
    """
    weights = 1 / variances
    total = weights.sum(axis=0)
    mean = (weights * effect_sizes).sum(axis=0) / total
    # Equal to sum W ES^2 - (sum W ES)^2 / sum W, which loses all digits where the effect sizes are alike.
    heterogeneity = (weights * (effect_sizes - mean) ** 2).sum(axis=0)
    scale = total - (weights**2).sum(axis=0) / total
    between = np.maximum(0, (heterogeneity - (len(effect_sizes) - 1)) / scale)
    weights = 1 / (variances + between)
    total = weights.sum(axis=0)
    combined = (weights * effect_sizes).sum(axis=0) / total
    return RandomEffects(heterogeneity, scale, between, combined, total**-0.5)


def p_value(model: RandomEffects, sides: Literal["one", "two"]) -> float:
    """Return the probability of a combined effect size as far from 0, to either side or above it, if there is none."""
    z = float(model.effect_size / model.standard_error)
    return float(2 * ndtr(-abs(z)) if sides == "two" else ndtr(-z))


def sampling_variance(effect_sizes: Floats, first: int, second: int) -> Floats:
    """Return the sampling variance of effect sizes whose divisor is the deviation of both sets together.

    By the delta method from that of Cohen's d, whose divisor is the deviation within sets: 1/h + d^2 / 2M, with
    h = first * second / M and M = first + second (Hedges and Olkin 1985). The map is ES = d * sqrt((M - 1) /
    (M - 2 + h d^2)). Our derivation; a test holds it against simulated sets.

    Args:
        effect_sizes: Of any shape.
        first: Words of X.
        second: Words of Y.
    """
    words = first + second
    h = first * second / words
    unexplained = 1 - h * effect_sizes**2 / (words - 1)
    variances: Floats = (words - 1) / (words - 2) * (unexplained**3 / h) + unexplained**2 * effect_sizes**2 / (
        2 * words
    )
    return variances


def _known(stimuli: Stimuli, known: Mapping[str, object]) -> tuple[dict[str, list[str]], dict[str, tuple[str, ...]]]:
    """Return the words of each set that are known, and those that are not; InputError if too few are."""
    words = {name: [word for word in some if word in known] for name, some in stimuli.sets().items()}
    missing = {name: tuple(word for word in some if word not in known) for name, some in stimuli.sets().items()}
    for name, some in words.items():
        # With one word in X and one in Y the effect size is the square root of 2, whatever they are.
        least = 2 if name in "XY" else 1
        if len(some) < least:
            without = f"; without one: {', '.join(missing[name])}" if missing[name] else ""
            problem = f"{len(some)} of its {len(some) + len(missing[name])} words have a vector{without}"
            raise InputError(f"word set {name}", problem, f"give words of which at least {least} have one")
    return words, _not_empty(missing)


def _with_fewer(
    words: Mapping[str, Sequence[str]], contexts: Mapping[str, Vectors], samples: int
) -> dict[str, tuple[str, ...]]:
    return _not_empty(
        {name: tuple(word for word in some if len(contexts[word]) < samples) for name, some in words.items()}
    )


def _not_empty(sets: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: some for name, some in sets.items() if some}


def _units(vectors: Sequence[Vectors], names: Sequence[str], counts: Sequence[int] | None = None) -> Vectors:
    """Return all vectors one below the other, of length 1; InputError with the name of one that cannot be."""
    table = np.concatenate(vectors)
    table = table.astype(np.result_type(table.dtype, np.float32), copy=False)
    lengths = np.sqrt(np.einsum("ij,ij->i", table, table))
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        owner = names[int(np.repeat(np.arange(len(names)), 1 if counts is None else counts)[bad[0]])]
        raise InputError(f"the vector of {owner!r}", "zero or not finite", "it has no cosine: give another, or none")
    table /= lengths[:, None]
    return table


def _tested(
    units: dict[str, Vectors], words: tuple[int, int], seed: int, permutations: int, missing: dict[str, tuple[str, ...]]
) -> Association:
    direction = units["A"].mean(axis=0, dtype=np.float64) - units["B"].mean(axis=0, dtype=np.float64)
    associations = np.concatenate([units["X"], units["Y"]]) @ direction
    first, each = len(units["X"]), len(units["X"]) // words[0]
    [effect_size], _ = _effect_sizes(associations[None], first, _rounding(units["X"]))
    low, high = _interval(associations[None], *words, each, lambda effect_sizes, _: effect_sizes[0], seed)
    value, exact = _p_value(associations, first, seed, permutations)
    return Association(Measurement(float(effect_size), sum(words), low, high), value, exact, missing)


def _rounding(vectors: Vectors) -> float:
    return float(np.finfo(vectors.dtype).eps)


def _effect_sizes(sampled: Floats, first: int, rounding: float) -> tuple[Floats, Floats]:
    """Return the effect size and the deviation of all targets in each of (N, targets); the first so many are X."""
    spreads = sampled.std(axis=1, ddof=1)
    alike = int((spreads <= ROUNDINGS * rounding).sum())
    if alike:
        of = f" in {alike} of {len(sampled)} samples" if len(sampled) > 1 else ""
        raise InputError(
            "word sets X and Y", f"all targets are associated alike{of}", "an effect size needs targets that differ"
        )
    return (sampled[:, :first].mean(axis=1) - sampled[:, first:].mean(axis=1)) / spreads, spreads


def _interval(
    sampled: Floats,
    first: int,
    second: int,
    each: int,
    statistic: Callable[[Floats, Floats], Floats],
    seed: int,
) -> tuple[float | None, float | None]:
    """Return the expanded percentile bootstrap interval over words of X and of Y.

    There is none if a replicate has no value, or a set fewer than three words: of two, replicates are nearly all alike.

    Args:
        sampled: (N, targets)
        first: Words of X.
        second: Words of Y.
        each: Targets of a word, that are drawn together.
        statistic: (N, replicates) effect sizes and deviations to (replicates,).
        seed: Of the bootstrap.
    """
    if min(first, second) < LEAST_WORDS:
        return None, None
    draws = generator(seed, "words of an association test")
    at_once = max(1, AT_ONCE // max(sampled.shape))
    replicates = []
    for done in range(0, BOOTSTRAP_REPLICATES, at_once):
        size = min(at_once, BOOTSTRAP_REPLICATES - done)
        times = [draws.multinomial(n, np.full(n, 1 / n), size=size) for n in (first, second)]
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates.append(statistic(*_resampled(sampled, *(np.repeat(some, each, axis=1).T for some in times))))
    values = np.concatenate(replicates)
    # Of two words with one association, a replicate may hold nothing else.
    if not np.isfinite(values).all():
        return None, None
    # Wider than at 2.5%: a bootstrap of few words has too small a variance, and takes it for known (Hesterberg 2015).
    smaller = min(first, second)
    quantile = stdtrit(first + second - 2, 0.5 + CONFIDENCE / 2) * (smaller / (smaller - 1)) ** 0.5
    tail = 100 * float(ndtr(-quantile))
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _resampled(sampled: Floats, x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return (N, replicates) effect sizes and deviations, where (targets of a set, replicates) are their numbers."""
    centred = sampled - sampled.mean(axis=1, keepdims=True)
    of_x, of_y = centred[:, : len(x)], centred[:, len(x) :]
    total = centred.shape[1]
    sum_x, sum_y = of_x @ x, of_y @ y
    squares = of_x**2 @ x + of_y**2 @ y
    spreads = np.sqrt((squares - (sum_x + sum_y) ** 2 / total) / (total - 1))
    spreads[spreads <= ROUNDINGS * np.finfo(float).eps] = np.nan
    return (sum_x / len(x) - sum_y / len(y)) / spreads, spreads


def _p_value(associations: Floats, first: int, seed: int, permutations: int) -> tuple[Measurement, bool]:
    """Return the share of partitions whose effect is no smaller, and whether they are all there are.

    With sets of given sizes, the sum of X's associations orders partitions as sum X - sum Y and mean X - mean Y do.
    Ties count, and so does what was observed if partitions are drawn: p is never 0 (Phipson and Smyth 2010).
    """
    observed = associations[:first].sum()
    # The same sum in another order is off by some roundings.
    observed -= ROUNDINGS * np.finfo(float).eps * np.abs(associations).sum()
    possible = comb(len(associations), first)
    if possible <= permutations:
        count = sum(
            int((associations[some].sum(axis=1) >= observed).sum()) for some in _partitions(len(associations), first)
        )
        return Measurement(count / possible, possible), True
    draws = generator(seed, "partitions of an association test")
    at_once = AT_ONCE // len(associations)
    count = 0
    for done in range(0, permutations, at_once):
        size = min(at_once, permutations - done)
        # The places of the smallest of random numbers are a random set.
        some = draws.random((size, len(associations))).argpartition(first, axis=1)[:, :first]
        count += int((associations[some].sum(axis=1) >= observed).sum())
    return proportion(count + 1, permutations + 1), False


def _partitions(total: int, first: int) -> Iterator[NDArray[np.int64]]:
    every = combinations(range(total), first)
    while some := list(islice(every, max(1, AT_ONCE // total))):
        yield np.array(some)
