"""Epsilon by privacy loss distributions, for the sampler, the clipping and the noise that really run.

Two ways of sampling are accounted for, and no other:

- Examples clipped one by one, each in a step's batch independently with probability q (Poisson). Adjacency: add or
  remove one. Abadi et al. 2016.
- Groups of m examples, dealt once without looking at the data, whose mean gradient is clipped as one; each group is in
  a batch independently with probability q. Replacing an example moves its group's clipped gradient by up to twice the
  clipping norm, from anywhere on the ball to its opposite: adjacency is replace one, and the pair is
  (1 - q) N(0, s^2) + q N(+1, s^2) against (1 - q) N(0, s^2) + q N(-1, s^2) in clipping norms.

The accountant (Koskela et al. 2020) is that of dp-accounting; its epsilon is an upper bound.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import dp_accounting
import numpy as np
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from stages.common.errors import SettingError

# Width of the accountant's grid; epsilon is an upper bound at any width, tighter at smaller ones.
DISCRETIZATION = 1e-3
# Where a calibration ends: with less noise the accountant takes hours, with more nothing is learnt.
LEAST_NOISE, MOST_NOISE = 0.1, 1000.0
NOISE_TOLERANCE = 1e-3
ADD_OR_REMOVE, REPLACE = "add or remove one example", "replace one example"


@dataclass(frozen=True)
class Phase:
    """Steps that have the same noise multiplier: standard deviation on the clipped sum, in clipping norms."""

    steps: int
    noise_multiplier: float


@dataclass(frozen=True)
class Mechanism:
    """All that epsilon depends on.

    Args:
        probability: Chance of each example, or of each group, to be in a step's batch.
        schedule: The phases, in order.
        group: Examples that are clipped together; 1 for DP-SGD.
    """

    probability: float
    schedule: tuple[Phase, ...]
    group: int = 1

    @property
    def adjacency(self) -> str:
        """What two neighbouring data sets differ in."""
        return ADD_OR_REMOVE if self.group == 1 else REPLACE


def decaying(probability: float, steps: int, noise: float, decay: float, group: int = 1) -> Mechanism:
    """Return the mechanism whose noise is multiplied by `decay` after every expected pass over the data.

    Args:
        probability: See Mechanism.
        steps: Of all passes.
        noise: Multiplier of the first pass.
        decay: 1 for noise that stays.
        group: See Mechanism.
    """
    if decay == 1:
        return Mechanism(probability, (Phase(steps, noise),), group)
    each = max(1, round(1 / probability))
    starts = range(0, steps, each)
    phases = (Phase(min(each, steps - start), noise * decay**number) for number, start in enumerate(starts))
    return Mechanism(probability, tuple(phases), group)


def epsilon(
    mechanism: Mechanism, delta: float, adjacency: str | None = None, discretization: float = DISCRETIZATION
) -> float:
    """Return epsilon at `delta`, under the mechanism's own adjacency or, if it is given, under REPLACE.

    It is an upper bound at any `discretization`, the width of the accountant's grid.

    Raises:
        ValueError: Groups are asked for under ADD_OR_REMOVE: dealt without looking at the data, their number is fixed.
    """
    adjacency = adjacency or mechanism.adjacency
    if mechanism.group > 1 and adjacency != REPLACE:
        raise ValueError("examples clipped in groups are accounted for under the replacement of one only")
    return _epsilon(mechanism, delta, adjacency, discretization)


@lru_cache(maxsize=1024)  # the models of a cell have one mechanism, and calibrating it asks many times
def _epsilon(mechanism: Mechanism, delta: float, adjacency: str, discretization: float) -> float:
    relation = NeighboringRelation.REPLACE_ONE if adjacency == REPLACE else NeighboringRelation.ADD_OR_REMOVE_ONE
    total = privacy_loss_distribution.identity(value_discretization_interval=discretization)
    for phase in mechanism.schedule:
        step = privacy_loss_distribution.from_gaussian_mechanism(
            phase.noise_multiplier,
            value_discretization_interval=discretization,
            sampling_prob=mechanism.probability,
            neighboring_relation=relation,
        )
        total = total.compose(step.self_compose(phase.steps))
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=1024)
def claimed_epsilon(mechanism: Mechanism, delta: float) -> float:
    """Return what is usually claimed: by Renyi moments, as if each example were clipped and sampled on its own.

    For groups that is too low: a clipped mean of several bounds no single example by the clipping norm.
    """
    # It says of each order that did not converge that it is left out, which takes nothing from an upper bound.
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = RdpAccountant()
    for phase in mechanism.schedule:
        step = dp_accounting.PoissonSampledDpEvent(
            mechanism.probability, dp_accounting.GaussianDpEvent(phase.noise_multiplier)
        )
        accountant.compose(step, phase.steps)
    return float(accountant.get_epsilon(delta))


def noise_multiplier(target: float, delta: float, make: Callable[[float], Mechanism]) -> float:
    """Return the least noise, to NOISE_TOLERANCE, whose epsilon is at most `target`.

    Args:
        target: Epsilon asked for.
        delta: At this delta.
        make: Returns the mechanism for a noise multiplier; the whole schedule is calibrated.

    Raises:
        SettingError: That is less than LEAST_NOISE, or more than MOST_NOISE; it names the nearest epsilon that is not.
    """
    # Looked for on a coarser grid, which costs in proportion, and then moved to where the fine one has it.
    coarse = min(10 * DISCRETIZATION, max(DISCRETIZATION, target / 100))

    def over(noise: float, discretization: float = coarse) -> float:
        return epsilon(make(noise), delta, None, discretization) - target

    low, high = _bracket(over, _estimate(target, delta, make))
    if over(low) <= 0:
        reached = _rounded(epsilon(make(low), delta), math.floor)
        raise SettingError(
            "privacy.epsilon",
            f"{target:g} at delta {delta:g} asks for less noise than {LEAST_NOISE} clipping norms",
            f"give at most {reached}" if reached else f"give a smaller delta: at this one {LEAST_NOISE} has epsilon 0",
        )
    if over(high) > 0:
        reached = _rounded(epsilon(make(high), delta), math.ceil)
        raise SettingError(
            "privacy.epsilon",
            f"{target:g} at delta {delta:g} asks for more noise than {MOST_NOISE:g} clipping norms",
            f"give at least {reached}, or a larger delta",
        )
    high = float(brentq(over, low, high, xtol=NOISE_TOLERANCE / 10, rtol=1e-6))
    low = high - NOISE_TOLERANCE

    def over_finely(noise: float) -> float:
        return over(noise, DISCRETIZATION)

    # Of thousands of steps the coarse grid says too much.
    if over_finely(high) > 0 or over_finely(low) <= 0:
        low, high = _bracket(over_finely, high)
    while high - low > NOISE_TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if over_finely(middle) <= 0 else (middle, high)
    return high


def _bracket(over: Callable[[float], float], guess: float) -> tuple[float, float]:
    """Return noise multipliers, within what is allowed, that are too small and large enough, if there are such."""
    low, high = max(LEAST_NOISE, 0.95 * guess), min(MOST_NOISE, 1.05 * guess)
    # The accountant's cost grows steeply as the noise falls, so the bracket goes down no further than it must.
    while over(low) <= 0 and low > LEAST_NOISE:
        low, high = max(LEAST_NOISE, 0.8 * low), low
    while over(high) > 0 and high < MOST_NOISE:
        low, high = high, min(MOST_NOISE, 1.5 * high)
    return low, high


def _estimate(target: float, delta: float, make: Callable[[float], Mechanism]) -> float:
    """Return about the noise multiplier, by the central limit of many steps (Bu et al. 2020): a place to begin."""

    def excess(mu: float) -> float:
        return float(ndtr(mu / 2 - target / mu) - np.exp(target + log_ndtr(-mu / 2 - target / mu))) - delta

    def distance(noise: float) -> float:
        mechanism = make(noise)
        # Of a pair that spans from one side of the ball to the other.
        width = mechanism.probability * (1 if mechanism.group == 1 else 2)
        # Of little noise the exponential overflows, and nothing is private.
        squares = [phase.steps * math.expm1(min(phase.noise_multiplier**-2, 600.0)) for phase in mechanism.schedule]
        return width * math.sqrt(sum(squares))

    # Beyond 1e3 nothing is private, below 1e-6 everything.
    wanted = brentq(excess, 1e-6, 1e3) if excess(1e-6) < 0 < excess(1e3) else 1e-6
    if distance(LEAST_NOISE) <= wanted:
        return LEAST_NOISE
    if distance(MOST_NOISE) >= wanted:
        return MOST_NOISE
    return float(brentq(lambda noise: distance(noise) - wanted, LEAST_NOISE, MOST_NOISE))


def _rounded(value: float, towards: Callable[[float], int]) -> float:
    """Return a value to three digits, no further than `towards`; 0 for 0."""
    if value == 0:
        return 0.0
    digit = 2 - math.floor(math.log10(value))
    return round(towards(value * 10.0**digit) / 10.0**digit, digit)


def statement(mechanism: Mechanism, delta: float, clipping_norm: float) -> dict[str, Any]:
    """Return the content of privacy.json: epsilon with everything it holds under, and what is usually claimed."""
    unit = "example" if mechanism.group == 1 else f"group of {mechanism.group} examples"
    return {
        "epsilon": epsilon(mechanism, delta),
        "replace_one_epsilon": epsilon(mechanism, delta, REPLACE),
        "claimed_epsilon": claimed_epsilon(mechanism, delta),
        "delta": delta,
        "unit": "example",
        "covers": "the weights of this one model; not the losses and metrics measured on the training examples",
        "composition": "models of other seeds and cells saw the same examples: releasing several adds up",
        "randomness": "seeded, so that anybody can repeat it; the guarantee asks for a secret seed",
        "adjacency": mechanism.adjacency,
        "clipped": unit,
        "sampler": {"kind": "poisson", "of": unit, "probability": mechanism.probability},
        "accountant": {
            "kind": "privacy loss distribution",
            "package": "dp-accounting",
            "discretization": DISCRETIZATION,
        },
        "clipping_norm": clipping_norm,
        "schedule": [asdict(phase) for phase in mechanism.schedule],
    }
