"""The clients' optimisers, over the weights of several clients at once."""

from math import sqrt

import torch
from torch import Tensor

from stages.federate.settings import AdamW, FederateSettings
from stages.federate.weights import Layout

# Of Adam (Kingma and Ba 2015): decay of the two moments, and what keeps from dividing by zero.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class LocalOptimiser:
    """SGD or AdamW, with what FedProx and SCAFFOLD add to gradients; its state starts anew in every round.

    Args:
        settings: Of the clients.
        layout: Of the weights.
        start: (P,) the server's weights.
        weights: (C, P) the clients', changed in place.
        corrections: (C, P) what is added to the gradients of each client.
    """

    def __init__(
        self, settings: FederateSettings, layout: Layout, start: Tensor, weights: Tensor, corrections: Tensor | None
    ) -> None:
        # Whether a step is that of SGD alone.
        self.plain = settings.plain
        self._client, self._mu, self._rate = settings.client, settings.mu, settings.learning_rate
        kept = 2 if isinstance(settings.client, AdamW) else int(settings.client.momentum > 0)
        self._layout, self._origin = layout, layout.views(start)
        self._flat = [weights, *(torch.zeros_like(weights) for _ in range(kept))]
        if corrections is not None:
            self._flat.append(corrections)
        self._corrected = corrections is not None
        self._views: list[list[Tensor]] = []

    def weights(self, active: int) -> list[Tensor]:
        """Return (active, *shape) views of the weights of the first clients, whose steps are made from now on."""
        if not self._views or len(self._views[0][0]) != active:
            self._views = [self._layout.views(flat[:active]) for flat in self._flat]
        return self._views[0]

    def step(self, gradients: list[Tensor], number: int) -> None:
        """Make a step, numbered from 0.

        Args:
            gradients: (active, *shape) of the first clients; of one client's step of SGD alone some may be sparse, of
                *shape.
            number: Of the step.
        """
        with torch.no_grad():
            if any(gradient.is_sparse for gradient in gradients):
                for weight, gradient in zip(self.weights(1), gradients, strict=True):
                    (weight[0] if gradient.is_sparse else weight).sub_(gradient, alpha=self._rate)
                return
            weights = self.weights(len(gradients[0]))
            state = self._views[1:]
            if self._mu:
                # Li et al. 2020, equation 2: mu (w - w_server).
                drift = torch._foreach_sub(weights, self._origin)
                gradients = list(torch._foreach_add(gradients, drift, alpha=self._mu))
            if self._corrected:
                gradients = list(torch._foreach_add(gradients, state.pop()))
            if isinstance(self._client, AdamW):
                self._adamw(weights, gradients, state, number + 1, 1 - self._rate * self._client.weight_decay)
                return
            if state:
                torch._foreach_mul_(state[0], self._client.momentum)
                torch._foreach_add_(state[0], gradients)
                gradients = state[0]
            torch._foreach_sub_(weights, gradients, alpha=self._rate)

    def _adamw(
        self, weights: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]], number: int, decay: float
    ) -> None:
        first, second = moments
        torch._foreach_mul_(weights, decay)
        torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        scales = torch._foreach_sqrt(second)
        torch._foreach_div_(scales, sqrt(1 - BETAS[1] ** number))
        torch._foreach_add_(scales, EPSILON)
        torch._foreach_addcdiv_(weights, first, scales, -self._rate / (1 - BETAS[0] ** number))
