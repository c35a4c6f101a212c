"""The control variates of SCAFFOLD (Karimireddy et al. 2020, algorithm 1, option II)."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Controls:
    """What the server and each client that was ever drawn know of the direction of their gradients.

    A client that was not drawn yet has a control variate of zero, which takes no memory.

    Args:
        size: P, trained values.
        clients: N, in the population.
    """

    def __init__(self, size: int, clients: int) -> None:
        self.server = torch.zeros(size, dtype=torch.float64)
        self.clients: dict[int, Tensor] = {}
        self._number = clients

    def correct(self, cohort: Sequence[int], into: Tensor) -> None:
        """Write c - c_i, which a client adds to its gradients, into (cohort, P)."""
        for client, correction in zip(cohort, into, strict=True):
            correction.copy_(self.server)
            if client in self.clients:
                correction.sub_(self.clients[client])

    def renew(self, cohort: Sequence[int], renewed: Tensor) -> None:
        """Take the (cohort, P) control variates of clients that reported; the server's stays the mean of all."""
        for client, control in zip(cohort, renewed, strict=True):
            change = control.double()
            if client in self.clients:
                change -= self.clients[client]
            self.server += change / self._number
            self.clients[client] = control.clone()
