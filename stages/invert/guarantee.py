"""The noise on a client's update, and what it guarantees.

An update is one release of the Gaussian mechanism: a sum of clipped gradients of which every text of the batch is one,
with noise on it. Nothing is sampled, so nothing is gained by sampling.
"""

from dataclasses import dataclass, field
from typing import Any

from stages.common.measurements import Measurement, no_guarantee
from stages.invert.settings import InvertSettings


@dataclass(frozen=True)
class Guarantee:
    """The noise of a cell's updates.

    Attributes:
        noise_multiplier: Its standard deviation on the sum of clipped gradients, in clipping norms; 0 for none.
        statement: Content of privacy.json.
        measured: What of that is measured of each seed.
    """

    noise_multiplier: float
    statement: dict[str, Any]
    measured: dict[str, Measurement] = field(default_factory=dict)


def guarantee(settings: InvertSettings) -> Guarantee:
    """Return the noise that the settings ask for, the least for an epsilon.

    Raises:
        SettingError: No noise gives this epsilon.
    """
    if settings.epsilon is None or settings.delta is None or settings.clipping_norm is None:
        if (noise := settings.noise_multiplier) is None:
            return Guarantee(0.0, no_guarantee("no noise is on the update"))
        reason = "the noise was given by hand, and what it guarantees was not computed"
        return Guarantee(noise, no_guarantee(reason), {"gradient/noise_multiplier": Measurement(noise)})
    # The accountant takes seconds to import; updates without a guarantee do without it.
    from stages.privacy import accounting

    def mechanism(noise: float) -> accounting.Mechanism:
        return accounting.Mechanism(1.0, (accounting.Phase(1, noise),))

    noise = accounting.noise_multiplier(settings.epsilon, settings.delta, mechanism)
    statement = accounting.statement(mechanism(noise), settings.delta, settings.clipping_norm) | {
        "adjacency": "replace one text by nothing: the size of the batch, which divides the sum, is public",
        "covers": "one update of one client",
        "composition": "updates of other steps, seeds and cells may be of the same texts: sending several adds up",
        "sampler": {"kind": "none", "of": "every text of the batch takes part"},
    }
    stated = {f"gradient/{name}": Measurement(statement[name]) for name in ("epsilon", "replace_one_epsilon", "delta")}
    return Guarantee(noise, statement, stated | {"gradient/noise_multiplier": Measurement(noise)})
