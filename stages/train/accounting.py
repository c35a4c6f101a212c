"""Epsilon of DP-SGD by privacy loss distributions, for the sampler and the clipping that really run.

Adjacency: add or remove one example. Sampler: each example independently with probability q in every
step (Poisson). Mechanism: the Gaussian of the clipped sum. Source: Abadi et al. 2016; accountant of
Koskela et al. 2020 as implemented (pessimistically) by dp-accounting.
"""

from typing import Any

import dp_accounting
from dp_accounting.pld import PLDAccountant

from stages.common.errors import SettingError

# Width of the accountant's grid; epsilon is an upper bound at any width, tighter at smaller ones.
DISCRETIZATION = 1e-3
LEAST_NOISE = 0.1


def _event(noise_multiplier: float, sampling_probability: float, steps: int) -> Any:
    step = dp_accounting.PoissonSampledDpEvent(sampling_probability, dp_accounting.GaussianDpEvent(noise_multiplier))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def _accountant() -> Any:
    return PLDAccountant(value_discretization_interval=DISCRETIZATION)


def epsilon(noise_multiplier: float, sampling_probability: float, steps: int, delta: float) -> float:
    """Return the epsilon at `delta` after `steps` steps of noise `noise_multiplier` x clipping norm."""
    accountant = _accountant().compose(_event(noise_multiplier, sampling_probability, steps))
    return float(accountant.get_epsilon(delta))


def noise_multiplier(target_epsilon: float, sampling_probability: float, steps: int, delta: float) -> float:
    """Return the smallest noise multiplier, to 1e-3, whose epsilon is at most `target_epsilon`.

    SettingError if that is less than LEAST_NOISE.
    """
    low, high = 0.8, 1.0
    # The accountant's cost grows steeply as the noise falls, so the bracket goes down no further than it must.
    while epsilon(low, sampling_probability, steps, delta) <= target_epsilon:
        low, high = 0.8 * low, low
        if low < LEAST_NOISE:
            raise SettingError(
                "privacy.epsilon",
                f"{target_epsilon:g} at delta {delta:g} asks for less noise than {LEAST_NOISE} clipping norms",
                "give a smaller epsilon",
            )
    while epsilon(high, sampling_probability, steps, delta) > target_epsilon:
        low, high = high, 1.5 * high
    found = dp_accounting.calibrate_dp_mechanism(
        _accountant,
        lambda sigma: _event(sigma, sampling_probability, steps),
        target_epsilon,
        delta,
        dp_accounting.ExplicitBracketInterval(low, high),
        tol=1e-3,
    )
    return float(found)


def statement(
    noise: float, sampling_probability: float, steps: int, delta: float, clipping_norm: float
) -> dict[str, Any]:
    """Return the content of privacy.json: epsilon with everything it holds under."""
    return {
        "epsilon": epsilon(noise, sampling_probability, steps, delta),
        "delta": delta,
        "unit": "example",
        "covers": "the weights of this one model; not the losses and metrics measured on the training examples",
        "composition": "models of other seeds and cells saw the same examples: releasing several adds up",
        "randomness": "seeded, so that anybody can repeat it; the guarantee asks for a secret seed",
        "adjacency": "add or remove one example",
        "sampler": {"kind": "poisson", "probability": sampling_probability},
        "accountant": {
            "kind": "privacy loss distribution",
            "package": "dp-accounting",
            "discretization": DISCRETIZATION,
        },
        "clipping_norm": clipping_norm,
        "schedule": [{"steps": steps, "noise_multiplier": noise}],
    }
