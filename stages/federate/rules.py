"""Rules by which devices are selected: `selection` in params.yaml. docs/studies/device_selection.md compares them."""

from collections.abc import Callable
from math import ceil
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stages.common.settings import Settings

# Of a table of the weights of counts, which is cheaper than the function of each device's.
LARGEST_TABLE = 2**20


class Uniform(Settings):
    """All devices with an example alike, without replacement: what federated averaging does by itself."""

    rule: Literal["uniform"]

    def weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (K,) weights of devices with (K,) examples; 0 where there is none."""
        return (counts > 0).astype(np.float64)


class _Weighted(Settings):
    """Devices by a weight that grows with their examples.

    Attributes:
        draw: How the cohort comes from the weights: devices one after another without replacement, as many draws with
            it, or each device by itself with probability min(1, c weight).
        rate: c of independent draws, which then depends on no device, as an epsilon wants; by default the one that
            makes the expected cohort `clients_per_round`.
        most: The largest probability of an independent draw.
    """

    draw: Literal["without_replacement", "with_replacement", "independently"] = "without_replacement"
    rate: float | None = Field(None, gt=0)
    most: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _rates_are_of_independent_draws(self) -> Self:
        if self.draw != "independently" and (self.rate is not None or self.most < 1):
            raise ValueError(f"draw: {self.draw} takes neither `rate` nor `most`; draw: independently does")
        return self


class Power(_Weighted):
    """By a power of the examples: 1 is proportional selection, below 1 tempered; 0 are all devices alike."""

    rule: Literal["power"]
    exponent: float = Field(1.0, ge=0, le=4)

    def weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (K,) weights of devices with (K,) examples; 0 where there is none."""
        if self.exponent == 1:
            return counts.astype(np.float64)
        return _of_counts(counts, lambda each: np.where(each > 0, each**self.exponent, 0.0))


class Log(_Weighted):
    """By log(1 + examples)."""

    rule: Literal["log"]

    def weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (K,) weights of devices with (K,) examples; 0 where there is none."""
        return _of_counts(counts, np.log1p)


class Threshold(Settings):
    """Devices with many examples alike, the others never, without replacement.

    Attributes:
        least: The fewest examples of a device that is asked.
        quantile: In the place of `least`: the quantile of the live devices' examples that a device must reach.
    """

    rule: Literal["threshold"]
    least: int | None = Field(None, ge=0)
    quantile: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.least is None) == (self.quantile is None):
            raise ValueError("rule: threshold takes either `least`, a number of examples, or `quantile`")
        return self

    def weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (K,) weights of devices with (K,) examples: 1 of those that are asked, 0 of the others."""
        least = self.least if self.quantile is None else heavy_from(counts, self.quantile)
        return (counts >= max(1, least or 0)).astype(np.float64)


class Top(Settings):
    """The devices with the most examples; chance decides between those with as many."""

    rule: Literal["top"]


class Strata(Settings):
    """A share of the cohort from devices with many examples, the rest from the others; within either all alike.

    Attributes:
        quantile: The quantile of the live devices' examples from which a device is heavy.
        share: Of the cohort, rounded to whole devices. A stratum that has fewer leaves its places to the other.
    """

    rule: Literal["strata"]
    quantile: float = Field(ge=0, lt=1)
    share: float = Field(ge=0, le=1)


class PowerOfChoice(Settings):
    """Of candidates by their examples those with the largest loss (Cho, Wang and Joshi 2020, arXiv 2010.01243).

    Attributes:
        candidates: d, drawn without replacement with p_k ~ n_k; each takes the weights and says its mean loss.
    """

    rule: Literal["power_of_choice"]
    candidates: int = Field(ge=1)


class Oort(Settings):
    """By how much a device's examples are lost, and how long ago that was seen (Lai et al. 2021, OSDI).

    Speeds of devices are not simulated here: what Oort makes of durations, and its pacer, have nothing to do.

    Attributes:
        explored: Share of a cohort that was never seen, in the first round; it shrinks by `decay` to `least_explored`.
        decay: See there.
        least_explored: See there.
        cut_off: Devices are exploited whose score is at least this share of the last place's.
        clip: Quantile at which utilities are clipped.
        retired_after: Selections after which a device is selected no more; never by default.
    """

    rule: Literal["oort"]
    explored: float = Field(0.9, ge=0, le=1)
    decay: float = Field(0.98, gt=0, le=1)
    least_explored: float = Field(0.3, ge=0, le=1)
    cut_off: float = Field(0.95, ge=0, le=1)
    clip: float = Field(0.95, gt=0, le=1)
    retired_after: int | None = Field(None, ge=1)


# Those that need nothing but the number of a device's examples.
Counting = Uniform | Power | Log | Threshold | Top | Strata
Selection = Annotated[Counting | PowerOfChoice | Oort, Field(discriminator="rule")]


def _of_counts(
    counts: NDArray[np.int64], weigh: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what `weigh` makes of counts, by a table where that is cheaper."""
    if len(counts) > (largest := int(counts.max(initial=0))) and largest < LARGEST_TABLE:
        table: NDArray[np.float64] = weigh(np.arange(largest + 1, dtype=np.float64))[counts]
        return table
    return weigh(counts.astype(np.float64))


def heavy_from(counts: NDArray[np.int64], quantile: float) -> int:
    """Return how many examples a device must hold to be among the heavy: the quantile over devices with any."""
    live = int(np.count_nonzero(counts))
    return place(counts, live - ceil(quantile * (live - 1)))


def place(counts: NDArray[np.int64], number: int) -> int:
    """Return the examples of the device that has the `number`-th most, from 1; one at least."""
    if not number:
        return 1
    if int(counts.max(initial=0)) >= LARGEST_TABLE:
        return int(np.partition(counts, len(counts) - number)[len(counts) - number])
    # Many devices have as many examples: counting them is cheaper than ordering them.
    at_least = np.cumsum(np.bincount(counts)[::-1])
    return len(at_least) - 1 - int(np.searchsorted(at_least, number))
