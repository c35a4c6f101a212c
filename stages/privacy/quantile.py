"""A clipping norm that follows a quantile of the gradients' norms, privately.

Source: Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", algorithm 1. Each step releases a
second sum beside that of the gradients: how many of the batch's units (examples, or groups) had a norm of at most C,
each counted as +1/2 if it had and -1/2 if not, with noise of its own.

What both sums cost together. A unit adds (g, b) with |g| <= C and b = 1/2 or -1/2, noised by C z and s. Measured in
the noise, that is a vector in a ball of radius r = sqrt(1 / z^2 + 1 / (2 s)^2): one Gaussian mechanism of multiplier
1 / r. The accountant is given 1 / r = sigma, so z = (sigma^-2 - (2 s)^-2)^(-1/2), theorem 1 of the source. Adding or
removing a unit moves the sum by at most r. Replacing an example turns its group's vector into any other of the ball, at
worst into its opposite, from (C, 1/2) to (-C, -1/2): the pair at +r and -r that groups are accounted for with. C itself
is computed from what earlier steps released, which composition allows.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from stages.common.errors import SettingError
from stages.common.settings import Settings

if TYPE_CHECKING:
    # Validation of params.yaml does without torch.
    from torch import Tensor


class Quantile(Settings):
    """How the clipping norm is adapted: `privacy.quantile` of a training cell.

    Attributes:
        target: The fraction of norms that shall be at most the clipping norm.
        learning_rate: Of the logarithm of the clipping norm.
        noise: Standard deviation of the noise on a step's count, in units.
    """

    target: float = Field(0.5, gt=0, lt=1)
    learning_rate: float = Field(0.2, gt=0)
    noise: float = Field(10.0, gt=0)

    def gradient_multiplier(self, multiplier: float) -> float:
        """Return the noise multiplier of the gradients, above the one that is accounted for.

        Raises:
            SettingError: The noise on the count is so small that the count alone costs all there is.
        """
        if 2 * self.noise <= multiplier:
            problem = f"{self.noise:g} leaves nothing of a noise multiplier of {multiplier:.4g} for the gradients"
            raise SettingError("privacy.quantile.noise", problem, f"give more than half of it, {multiplier / 2:.4g}")
        return multiplier / math.sqrt(1 - (multiplier / (2 * self.noise)) ** 2)

    def next(
        self, clipping_norm: float, shifted_count: float, expected: float, generator: np.random.Generator
    ) -> float:
        """Return the clipping norm of the next step.

        Args:
            clipping_norm: That of this step.
            shifted_count: The sum of +1/2 for each unit that was within it and -1/2 for each other; private.
            expected: Expected number of units; their true number depends on the data.
            generator: Seeded, it is no secret: for experiments only.
        """
        fraction = (shifted_count + generator.normal(0.0, self.noise)) / expected + 0.5
        return clipping_norm * math.exp(-self.learning_rate * (fraction - self.target))


def shifted_count(norms: "Tensor", clipping_norm: float) -> float:
    """Return the sum of +1/2 for each norm of at most the clipping norm and -1/2 for each other."""
    return float((norms <= clipping_norm).sum()) - len(norms) / 2
