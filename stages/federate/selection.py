"""Which devices take part in a round, by the examples that they hold, and how probable that was.

A rule gives each device a weight w_k. Of m draws by these weights

- with replacement, each is device k with p_k = w_k / sum w;
- without, devices are drawn one after another, each by the weights of those that are left: successive sampling;
- independently, each device joins by itself with probability q_k = min(most, c w_k), and m is left to chance.

Draws without replacement are the first m devices to ring, where device k rings at rate w_k for the first time after an
exponential time. Those of the few heavy devices are drawn; of the many others a Poisson process of all their rings is,
device by device by lookup in cumulative weights, and who rings again is passed over. So as long as weights stay a
round costs m lookups, however many devices there are. The time T at which the (m + 1)-th device rings is known with
it: given all others, device k is among the first m with probability 1 - exp(-w_k T), by which its update is divided
for a sum without bias (Cohen and Kaplan 2007, rank conditioning with exponential ranks).
"""

from collections.abc import Callable
from math import log
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.federate.rules import Counting, Log, Power, Strata, Threshold, Top, Uniform, heavy_from, place

# A device is heavy if of this many times as many rings as there are places one is to be expected of it.
RINGS = 4
# Probability beyond which whether a device joins is drawn, and not whether it rings.
LIKELY = 0.5
# Of cumulative weights, a power of two.
BLOCK = 256


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
        self._size = min(size, int(np.count_nonzero(counts)))
        last = place(counts, self._size)
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
        places = ((heavy, size - of_light), (light, of_light))
        self._left_out = any(len(devices) and not many for devices, many in places)

    def draw(self, source: np.random.Generator) -> Drawn:
        heavy, light = (stratum.draw(source) for stratum in self._strata)
        devices = np.concatenate([heavy.devices, light.devices])
        expected = np.concatenate([heavy.expected, light.expected])
        if self._left_out:
            # No weights make up for a stratum that is never asked.
            expected[:] = np.nan
        order = np.argsort(devices)
        return once(devices[order], expected[order])


class _Repeated:
    """Draws with replacement."""

    def __init__(self, weights: NDArray[np.float64], size: int) -> None:
        self._rings, self._weights = _Rings(weights), weights
        self._size = size if self._rings.total else 0

    def draw(self, source: np.random.Generator) -> Drawn:
        devices, times = np.unique(self._rings.ring(source, self._size), return_counts=True)
        return Drawn(devices, times, self._size * self._weights[devices] / self._rings.total)


class _Independent:
    """Draws of each device by itself."""

    def __init__(self, weights: NDArray[np.float64], rate: float, most: float) -> None:
        self._weights, self._rate, self._most = weights, rate, most
        self._likely = np.flatnonzero(weights > LIKELY / rate)
        self._rings = _Rings(_without(weights, self._likely))

    def draw(self, source: np.random.Generator) -> Drawn:
        # Who is unlikely rings within this time at least as probably as it joins, for -log(1 - q) is at most as often q
        # up to a half, and is kept as often as makes up for it. So not every device is looked at.
        time = self._rate * -log(1 - LIKELY) / LIKELY
        rung = np.unique(self._rings.ring(source, int(source.poisson(time * self._rings.total))))
        rang = -np.expm1(-time * self._weights[rung])
        kept = source.random(len(rung)) * rang < self._probabilities(rung)
        likely = source.random(len(self._likely)) < self._probabilities(self._likely)
        devices = np.sort(np.concatenate([rung[kept], self._likely[likely]]))
        return once(devices, self._probabilities(devices))

    def _probabilities(self, devices: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.minimum(self._rate * self._weights[devices], self._most)


def _rate(weights: NDArray[np.float64], size: int, most: float) -> float:
    """Return c such that min(most, c w) add up to `size`, or one that gives every device `most`."""
    if size >= most * np.count_nonzero(weights):
        return most / float(weights[weights > 0].min(initial=most))
    rate, capped = size / float(weights.sum()), 0
    # Those beyond `most` have it, and the others share what is left; which may take more of them there. What is left is
    # added up anew: of a difference from a sum of heavy devices nothing may remain but rounding.
    while (beyond := int(np.count_nonzero(weights > most / rate))) > capped:
        capped = beyond
        rate = (size - most * capped) / float(weights[weights <= most / rate].sum())
    return rate


class Successive:
    """Draws without replacement; see the head of this file.

    Args:
        weights: (K,) of the devices, which is not drawn if it is 0.
        size: m, or fewer if there are not as many.
    """

    def __init__(self, weights: NDArray[np.float64], size: int) -> None:
        live = int(np.count_nonzero(weights))
        self._weights, self._size, self._all = weights, min(size, live), size >= live
        heavy, many, light = np.flatnonzero(weights[:0]), -1, weights
        # Of the rest more may be heavy without the first; in the end no light one is, and so they are many or none. The
        # rest is added up anew: of a difference from a sum of heavy devices nothing may remain but rounding.
        while len(heavy) > many:
            many, least = len(heavy), float(light.sum()) / (RINGS * max(1, size))
            heavy = np.flatnonzero(weights > least)
            light = _without(weights, heavy)
        self._heavy, self._rings = heavy, _Rings(light)

    def draw(self, source: np.random.Generator) -> Drawn:
        """Return a cohort."""
        if self._all:
            return once(np.flatnonzero(self._weights), np.ones(self._size))
        devices, times = self._light(source)
        devices = np.concatenate([self._heavy, devices])
        times = np.concatenate([source.standard_exponential(len(self._heavy)) / self._weights[self._heavy], times])
        # One more than is wanted, which tells the time that the others had.
        first = np.argpartition(times, self._size)
        chosen = np.sort(devices[first[: self._size]])
        return once(chosen, -np.expm1(-self._weights[chosen] * times[first[self._size]]))

    def _light(self, source: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return light devices and when each rings first: the first of them, one more than a cohort has."""
        found, times, now = np.empty(0, dtype=np.int64), np.empty(0), 0.0
        while self._rings.total and len(found) <= self._size:
            rung = self._rings.ring(source, self._size + 1)
            rings = now + np.cumsum(source.standard_exponential(len(rung))) / self._rings.total
            now = float(rings[-1])
            # Of the rings of a device the first: earlier ones stand before.
            found, first = np.unique(np.concatenate([found, rung]), return_index=True)
            times = np.concatenate([times, rings])[first]
        return found, times


class _Rings:
    """Devices that ring, each at the rate that its weight says; `total` is the sum of the weights."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self._cumulative = np.cumsum(weights)
        # The end of each block, all of which stay in the cache, where a search over a million goes astray in memory.
        self._ends = self._cumulative[BLOCK - 1 :: BLOCK].copy()
        self.total = float(self._cumulative[-1]) if len(weights) else 0.0

    def ring(self, source: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return the devices of the next so many rings, in their order."""
        # A product may be rounded up to the sum itself, where no device is.
        where = np.minimum(source.random(count) * self.total, np.nextafter(self.total, 0.0))
        found: NDArray[np.int64] = np.searchsorted(self._ends, where, side="right") * BLOCK
        step = BLOCK // 2
        while step:
            last = np.minimum(found + step, len(self._cumulative)) - 1
            found += np.where(self._cumulative[last] <= where, step, 0)
            step //= 2
        return found


def _without(weights: NDArray[np.float64], devices: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(devices):
        return weights
    rest = weights.copy()
    rest[devices] = 0
    return rest


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
