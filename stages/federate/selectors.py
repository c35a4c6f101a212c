"""Draws the cohort of each round, by counts of examples or by what devices lose, and keeps what that takes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator, identity
from stages.federate.population import Population
from stages.federate.rules import Counting, Oort, PowerOfChoice, Threshold, Uniform
from stages.federate.selection import (
    Drawing,
    Drawn,
    Successive,
    check_cohort,
    drawing,
    once,
    select,
    select_in_turn,
    select_independently,
)
from stages.federate.settings import FederateSettings

# (clients, clients of a round, seed, round) -> sorted clients.
_Draw = Callable[[int, int, int, int], NDArray[np.int64]]
# Devices -> the (n,) losses of each one's examples under the server's weights.
Losses = Callable[[Sequence[int]], list[NDArray[np.float64]]]


class Selector(Protocol):
    """Draws cohorts of a population, round after round."""

    def begin(self, population: Population) -> None:
        """Go on with the same devices when they hold other examples."""

    def draw(self, number: int) -> Drawn:
        """Return the cohort of a round, from 1; rounds follow one another."""

    def learn(self, number: int, devices: Sequence[int]) -> None:
        """Be told which devices of a round report, before they are trained."""


def selector(settings: FederateSettings, population: Population, seed: int, losses: Losses) -> Selector:
    """Return what the settings ask for.

    Args:
        settings: Of the cell.
        population: The clients.
        seed: Of all draws; a cohort depends on it and its round, and where losses count on those.
        losses: Asks devices.

    Raises:
        SettingError: A cohort is larger than the population.
    """
    check_cohort(len(population), settings.clients_per_round)
    match settings.selection:
        case PowerOfChoice() as rule:
            return _PowerOfChoice(rule, settings, population, seed, losses)
        case Oort() as rule:
            return _Oort(rule, settings, population, seed, losses)
        case rule if settings.mechanism == "dp_ftrl":
            return _Plain(settings, len(population), seed, select_in_turn)
        case Uniform() if settings.mechanism == "dp_fedavg":
            return _Plain(settings, len(population), seed, partial(select_independently, cell=identity(settings)))
        case Uniform() if population.sizes() is None and settings.participation.available == 1:
            return _Plain(settings, len(population), seed, select)
        case rule:
            return _ByCounts(rule, settings, population, seed)


class _Plain:
    """Draws that need not know who holds how much."""

    def __init__(self, settings: FederateSettings, clients: int, seed: int, drawn: _Draw) -> None:
        self._drawn, self._of_round = drawn, (clients, settings.clients_per_round, seed)

    def begin(self, population: Population) -> None:
        raise NotImplementedError("clients whose examples come and go are drawn by their counts")

    def draw(self, number: int) -> Drawn:
        devices = self._drawn(*self._of_round, number)
        return once(devices, np.full(len(devices), self._of_round[1] / self._of_round[0]))

    def learn(self, number: int, devices: Sequence[int]) -> None:
        pass


class _Counted:
    """Keeps how many examples devices hold, and who of them can be asked."""

    def __init__(self, settings: FederateSettings, population: Population, seed: int) -> None:
        self.settings, self.seed = settings, seed
        private = settings.privacy is not None
        self._purpose, self._cell = ("poisson cohort", identity(settings)) if private else ("cohort", ())
        self.begin(population)

    def begin(self, population: Population) -> None:
        sizes = population.sizes()
        self._counts = np.ones(len(population), dtype=np.int64) if sizes is None else sizes

    def counts(self, number: int) -> NDArray[np.int64]:
        """Return the (K,) examples of the devices, 0 of those that cannot be asked in a round."""
        chance = self.settings.participation.available
        if chance == 1:
            return self._counts
        return self._counts * (generator(self.seed, "availability", number).random(len(self._counts)) < chance)

    def source(self, number: int) -> np.random.Generator:
        """Return what the cohort of a round is drawn from."""
        return generator(self.seed, self._purpose, number, *self._cell)

    def learn(self, number: int, devices: Sequence[int]) -> None:
        """By counts there is nothing to learn of devices that report."""


class _ByCounts(_Counted):
    """A rule that needs counts alone; what does not change from round to round is made once."""

    def __init__(self, rule: Counting, settings: FederateSettings, population: Population, seed: int) -> None:
        self._rule, self._made = rule, (np.empty(0, dtype=np.int64), cast("Drawing", None))
        super().__init__(settings, population, seed)

    def begin(self, population: Population) -> None:
        super().begin(population)
        if isinstance(self._rule, Threshold) and self._rule.least is not None:
            most = int(self._counts.max())
            if most < self._rule.least:
                none = f"{self._rule.least} is more than the {most} examples of the largest device"
                raise SettingError("selection.least", none, "give a smaller number, or `quantile`")

    def draw(self, number: int) -> Drawn:
        counts = self.counts(number)
        if counts is not self._made[0]:
            self._made = counts, drawing(self._rule, counts, self.settings.clients_per_round)
        drawn = self._made[1](self.source(number))
        if self.settings.weighting in ("horvitz_thompson", "hajek") and np.isnan(drawn.expected).any():
            problem = f"leaves a stratum without a place in a cohort of {len(drawn.devices)}, and so without a weight"
            raise SettingError("selection.share", problem, "give another share, or a larger cohort")
        return drawn


class _PowerOfChoice(_Counted):
    """See `PowerOfChoice`."""

    def __init__(
        self, rule: PowerOfChoice, settings: FederateSettings, population: Population, seed: int, losses: Losses
    ) -> None:
        super().__init__(settings, population, seed)
        self._candidates, self._losses = rule.candidates, losses

    def draw(self, number: int) -> Drawn:
        candidates = Successive(self.counts(number).astype(np.float64), self._candidates).draw(self.source(number))
        lost = np.array([losses.mean() for losses in self._losses(candidates.devices.tolist())])
        chosen = np.argsort(-lost, kind="stable")[: self.settings.clients_per_round]
        devices = np.sort(candidates.devices[chosen])
        return once(devices, passed_over=len(lost) - len(devices))


class _Oort(_Counted):
    """See `Oort`."""

    def __init__(
        self, rule: Oort, settings: FederateSettings, population: Population, seed: int, losses: Losses
    ) -> None:
        super().__init__(settings, population, seed)
        self._rule, self._losses = rule, losses
        self._utilities, self._seen = np.zeros(len(population)), np.zeros(len(population), dtype=np.int64)
        self._selections = np.zeros(len(population), dtype=np.int64)

    def draw(self, number: int) -> Drawn:
        rule, source = self._rule, self.source(number)
        live = self.counts(number) > 0
        if rule.retired_after is not None:
            live &= self._selections < rule.retired_after
        fresh, known = (np.flatnonzero(live & which) for which in (self._seen == 0, self._seen > 0))
        size = min(self.settings.clients_per_round, len(fresh) + len(known))
        if not size:
            problem = f"after {rule.retired_after} selections each no device is left in round {number}"
            raise SettingError("selection.retired_after", problem, "give a larger number, or fewer rounds")
        share = max(rule.explored * rule.decay ** (number - 1), rule.least_explored)
        explored = max(min(round(share * size), len(fresh)), size - len(known))
        found = source.choice(fresh, size=explored, replace=False)
        devices = np.sort(np.concatenate([found, self._exploited(known, size - explored, number, source)]))
        self._selections[devices] += 1
        return once(devices)

    def _exploited(
        self, known: NDArray[np.int64], size: int, number: int, source: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return so many of the known devices, by their scores."""
        if not size:
            return known[:0]
        useful = np.minimum(self._utilities[known], np.quantile(self._utilities[known], self._rule.clip))
        spread = float(np.ptp(useful))
        scores = (useful - useful.min()) / (spread or 1.0) + np.sqrt(0.1 * np.log(number) / self._seen[known])
        last = np.partition(scores, len(scores) - size)[len(scores) - size]
        eligible = scores >= self._rule.cut_off * last
        # A score of zero is the least there can be, and no reason never to be drawn.
        weights = np.where(eligible, np.maximum(scores, np.finfo(np.float64).tiny), 0.0)
        return known[Successive(weights, size).draw(source).devices]

    def learn(self, number: int, devices: Sequence[int]) -> None:
        """Take the utility of devices that report, n sqrt(mean of squared losses), under the weights they were sent."""
        for device, lost in zip(devices, self._losses(devices), strict=True):
            self._utilities[device], self._seen[device] = len(lost) * np.sqrt(np.square(lost).mean()), number
