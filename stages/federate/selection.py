"""Which devices take part in a round, by the examples that they hold, and how probable that was.

A rule gives each device a weight w_k. Of m draws by these weights

- with replacement, each is device k with p_k = w_k / sum w;
- without, devices are drawn one after another, each by the weights of those that are left: successive sampling;
- independently, each device joins by itself with probability q_k = min(most, c w_k), and m is left to chance.

Draws without replacement are the first m devices that ring where device k rings at rate p_k, whatever rings again being
passed over. So a round costs lookups in cumulative weights alone, as long as weights stay. And the time T at which the
(m + 1)-th device rings is known: given all others, device k is among the first m with probability 1 - exp(-p_k T), by
which its update is divided for a sum without bias (Cohen and Kaplan 2007, rank conditioning with exponential ranks).
"""

from collections.abc import Callable
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.federate.rules import Counting, Log, Power, Strata, Threshold, Top, Uniform, heavy_from

# Rings that are made at once are as many as are wanted, and so many times more for devices that ring again.
SPARE = 1.1


class Drawn(NamedTuple):
    """A cohort.

    Attributes:
        devices: (m,) sorted, each once.
        times: (m,) how often each was drawn: more than once only with replacement.
        expected: (m,) how often each was to be expected: times / expected is 1 on average over all cohorts, which
            weighs without bias. Not a number where that is not known.
        passed_over: Devices that took the weights to say what they lose, and were not chosen.
    """

    devices: NDArray[np.int64]
    times: NDArray[np.int64]
    expected: NDArray[np.float64]
    passed_over: int = 0


Drawing = Callable[[np.random.Generator], Drawn]


def drawing(rule: Counting, counts: NDArray[np.int64], size: int) -> Drawing:
    """Return what draws cohorts, each from the generator alone; what no draw changes is made once, here.

    Args:
        rule: Needs counts alone.
        counts: (K,) examples of each device, which is not drawn if it has none.
        size: m, devices of a cohort; if fewer can be drawn, all of them are.
    """
    match rule:
        case Uniform() | Threshold():
            return _Alike(np.flatnonzero(rule.weights(counts)), size).draw
        case Top():
            return _Top(counts, size).draw
        case Strata():
            return _Strata(rule, counts, size).draw
        case Power() | Log():
            weights = rule.weights(counts)
            match rule.draw:
                case "without_replacement":
                    return Successive(weights, size).draw
                case "with_replacement":
                    return _Repeated(weights, size).draw
                case "independently":
                    return _Independent(weights, rule.rate or _rate(weights, size, rule.most), rule.most).draw
    assert_never(rule)


class _Alike:
    """Devices drawn uniformly without replacement."""

    def __init__(self, devices: NDArray[np.int64], size: int) -> None:
        self._devices, self._size = devices, min(size, len(devices))

    def draw(self, source: np.random.Generator) -> Drawn:
        chosen = np.sort(source.choice(len(self._devices), size=self._size, replace=False))
        return once(self._devices[chosen], np.full(self._size, self._size / max(1, len(self._devices))))


class _Top:
    """The devices with the most examples."""

    def __init__(self, counts: NDArray[np.int64], size: int) -> None:
        live = np.flatnonzero(counts)
        self._size = min(size, len(live))
        self._sure = self._tied = live[:0]
        if self._size:
            last = np.partition(counts[live], len(live) - self._size)[len(live) - self._size]
            self._sure, self._tied = np.flatnonzero(counts > last), np.flatnonzero(counts == last)

    def draw(self, source: np.random.Generator) -> Drawn:
        places = self._size - len(self._sure)
        tied = source.choice(self._tied, size=places, replace=False)
        # The others can never be drawn: no weights make up for them.
        return once(np.sort(np.concatenate([self._sure, tied])))


class _Strata:
    """So many devices of those with many examples, and of the others."""

    def __init__(self, rule: Strata, counts: NDArray[np.int64], size: int) -> None:
        least = heavy_from(counts, rule.quantile)
        heavy, light = np.flatnonzero(counts >= least), np.flatnonzero((counts > 0) & (counts < least))
        of_heavy = min(round(rule.share * size), len(heavy))
        of_light = min(size - of_heavy, len(light))
        self._strata = [_Alike(heavy, size - of_light), _Alike(light, of_light)]

    def draw(self, source: np.random.Generator) -> Drawn:
        heavy, light = (stratum.draw(source) for stratum in self._strata)
        devices = np.concatenate([heavy.devices, light.devices])
        expected = np.concatenate([heavy.expected, light.expected])
        order = np.argsort(devices)
        return once(devices[order], expected[order])


class _Repeated:
    """Draws with replacement."""

    def __init__(self, weights: NDArray[np.float64], size: int) -> None:
        self._rings = _Rings(weights)
        self._size = size if self._rings.live else 0

    def draw(self, source: np.random.Generator) -> Drawn:
        devices, times = np.unique(self._rings.ring(source, self._size), return_counts=True)
        return Drawn(devices, times, self._size * self._rings.shares(devices))


class _Independent:
    """Draws of each device by itself."""

    def __init__(self, weights: NDArray[np.float64], rate: float, most: float) -> None:
        self._probabilities = np.minimum(rate * weights, most)

    def draw(self, source: np.random.Generator) -> Drawn:
        devices = np.flatnonzero(source.random(len(self._probabilities)) < self._probabilities)
        return once(devices, self._probabilities[devices])


def _rate(weights: NDArray[np.float64], size: int, most: float) -> float:
    """Return c such that min(most, c w) add up to `size`, or to as much as they can."""
    ordered = np.sort(weights[weights > 0])[::-1]
    if size >= most * len(ordered):
        return most / float(ordered[-1]) if len(ordered) else 1.0
    # With the first j at `most`, what is left is shared by the others; the right j is the first where they stay below.
    rest = np.cumsum(ordered[::-1])[::-1]
    rates = (size - most * np.arange(len(ordered))) / rest
    return float(rates[np.argmax(rates * ordered <= most)])


class Successive:
    """Draws without replacement, by rings; see the head of this file."""

    def __init__(self, weights: NDArray[np.float64], size: int) -> None:
        self._rings = _Rings(weights)
        self._weights, self._size = weights, min(size, self._rings.live)

    def draw(self, source: np.random.Generator) -> Drawn:
        if self._size == self._rings.live:
            return once(np.flatnonzero(self._weights), np.ones(self._size))
        rings, time, found = self._rings, 0.0, np.empty(0, dtype=np.int64)
        # One more than are wanted: it tells the time that the others had.
        while (missing := self._size + 1 - len(found)) > 0:
            if len(found) and 2 * self._weights[found].sum() > rings.total:
                # Most rings are of devices that rang before, and are not made any more.
                left = self._weights.copy()
                left[found] = 0
                rings = _Rings(left)
            rung = rings.ring(source, int(SPARE * missing) + 1)
            _, first = np.unique(rung, return_index=True)
            first = np.sort(first[~np.isin(rung[first], found)])[:missing]
            made = int(first[-1]) + 1 if len(first) == missing else len(rung)
            time += source.standard_gamma(made) / rings.total
            found = np.concatenate([found, rung[first]])
        devices = np.sort(found[: self._size])
        return once(devices, -np.expm1(-self._weights[devices] * time))


class _Rings:
    """Devices that ring, each as often as its weight says; `total` is the sum of the weights."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._cumulative = np.cumsum(weights)
        self._weights, self.live = weights, int(np.count_nonzero(weights))
        self.total = float(self._cumulative[-1]) if self.live else 0.0

    def ring(self, source: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return the devices of the next so many rings, in their order."""
        # A product may be rounded up to the sum itself, where no device is.
        where = np.minimum(source.random(count) * self.total, np.nextafter(self.total, 0.0))
        found: NDArray[np.int64] = np.searchsorted(self._cumulative, where, side="right")
        return found

    def shares(self, devices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of all rings that each of these devices has."""
        shares: NDArray[np.float64] = self._weights[devices] / self.total
        return shares


def once(devices: NDArray[np.int64], expected: NDArray[np.float64] | None = None, passed_over: int = 0) -> Drawn:
    """Return a cohort in which each of these devices was drawn once; by default nobody knows how probably."""
    known = np.full(len(devices), np.nan) if expected is None else expected
    return Drawn(devices, np.ones(len(devices), dtype=np.int64), known, passed_over)


def select(clients: int, per_round: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """Return the sorted clients of a round, drawn uniformly without replacement from (seed, round) alone.

    Raises:
        SettingError: There are fewer clients than that.
    """
    check_cohort(clients, per_round)
    cohort = generator(seed, "cohort", round_number)
    return np.sort(cohort.choice(clients, size=per_round, replace=False))


def select_independently(
    clients: int, per_round: int, seed: int, round_number: int, cell: tuple[int, ...] = ()
) -> NDArray[np.int64]:
    """Return the sorted clients of a round, each of which joined with the same probability: a Poisson sample.

    Args:
        clients: Of the population.
        per_round: Expected.
        seed: See stages/common/streams.py, as of the next two.
        round_number: From 1.
        cell: Keeps the sample from those of other cells with this seed.

    Raises:
        SettingError: There are fewer clients than are expected.
    """
    check_cohort(clients, per_round)
    joined = generator(seed, "poisson cohort", round_number, *cell).random(clients) < per_round / clients
    return np.flatnonzero(joined)


def select_in_turn(clients: int, per_round: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """Return the sorted clients of a round, of which each takes part once in a pass.

    A pass has its own random order, which depends on no data; clients that fill no whole cohort at its end sit it out.

    Raises:
        SettingError: There are fewer clients than a cohort has.
    """
    check_cohort(clients, per_round)
    passed, place = divmod(round_number - 1, rounds_of_a_pass(clients, per_round))
    order = generator(seed, "turns", passed).permutation(clients)
    return np.sort(order[place * per_round : (place + 1) * per_round])


def rounds_of_a_pass(clients: int, per_round: int) -> int:
    """Return how many rounds it takes until every client could take part once."""
    return clients // per_round


def check_cohort(clients: int, per_round: int) -> None:
    """Raise SettingError if a cohort is larger than the population."""
    if per_round > clients:
        more = f"{per_round} is more than the {clients} clients of the partition"
        raise SettingError("clients_per_round", more, "give a smaller cohort, or a partition with more clients")
