"""Clients that never have weights of their own: the weighted sum of what plain SGD makes of them, from factors.

After some steps at rate r, a client's weights of a linear layer are W - r G^T X: the server's W, the rows X that went
through the layer, and the gradients G of what became of them. A row x then becomes x W^T - r (x X^T) G, and the sum
over clients is one product of all their rows. W is the same for all, so it is multiplied by the rows of all at once; a
client's own weights, which otherwise are read and written in each step, are never made.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.federate.stacked import Own, StandIn, Together, Weights

# Factors pay while rows * (in + out) is at most so many times in * out.
FACTORS_UP_TO = 1.0


class Factored(Together):
    """Has linear layers take the clients' weights after their steps so far; a backward pass makes another.

    Args:
        of_model: What `layers` returned.
        start: The server's weights, of each parameter.
        rate: Learning rate of the steps.
        clients: C, how many there are.
        steps: The most that a client makes.
    """

    def __init__(
        self, of_model: Sequence[nn.Linear], start: Sequence[Tensor], rate: float, clients: int, steps: int
    ) -> None:
        given = iter(start)
        self._weights = [
            _Cheaper([next(given) for _ in layer.parameters()], rate, clients, steps) for layer in of_model
        ]
        super().__init__([StandIn(*each) for each in zip(of_model, self._weights, strict=True)])

    def changes(self, weights: Tensor) -> list[Tensor]:
        """Return how far the clients are from the server, of each parameter: a sum, each times its of (C,) weights."""
        return [change for each in self._weights for change in each.changes(weights)]


class _Summed(Weights):
    """Weights of which the sum is wanted."""

    @abstractmethod
    def changes(self, weights: Tensor) -> list[Tensor]:
        """Return the changes of the layer's parameters; see Factored."""


class _Cheaper(_Summed):
    """Factors or copies, whichever are cheaper for as many rows as turn up.

    Args:
        start: (out, in) and, with a bias, (out,) of the server.
        rate: Learning rate.
        clients: C.
        steps: The most that a client makes.
    """

    def __init__(self, start: list[Tensor], rate: float, clients: int, steps: int) -> None:
        self._start, self._rate, self._clients, self._steps = start, rate, clients, steps
        self._chosen: _Summed | None = None

    def multiply(self, rows: Tensor) -> Tensor:
        if self._chosen is None:
            self._chosen = self._choose(self._steps * rows.shape[1])
        return self._chosen.multiply(rows)

    def take(self, rows: Tensor, gradients: Tensor, passed_on: bool) -> Tensor | None:
        assert self._chosen is not None
        return self._chosen.take(rows, gradients, passed_on)

    def changes(self, weights: Tensor) -> list[Tensor]:
        if self._chosen is None:
            # No pass went through the layer.
            return [torch.zeros_like(each) for each in self._start]
        return self._chosen.changes(weights)

    def _choose(self, rows: int) -> _Summed:
        # A row costs products with all rows before it, or that weights are read and written.
        if rows * sum(self._start[0].shape) < FACTORS_UP_TO * self._start[0].numel():
            return _Factors(self._start, self._rate, self._clients, rows)
        return _Copies(self._start, self._rate, self._clients)


class _Factors(_Summed):
    """The rows of the steps so far, and the steps by them: minus the rate times the gradients.

    Args:
        start: See _Cheaper, as of `rate` and `clients`.
        rate: See there.
        clients: See there.
        rows: Of a client, in all its steps.
    """

    def __init__(self, start: list[Tensor], rate: float, clients: int, rows: int) -> None:
        self._weight, self._bias = start[0], start[1] if len(start) > 1 else None
        self._rate, self._made = rate, 0
        # A client that has made its steps before the others has rows of zeros.
        self._rows = self._weight.new_zeros(clients, rows, self._weight.shape[1])
        self._steps = self._weight.new_zeros(clients, rows, self._weight.shape[0])

    def multiply(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(0, 1)
        made = flat @ self._weight.T if self._bias is None else torch.addmm(self._bias, flat, self._weight.T)
        made = made.view(*rows.shape[:2], -1)
        if self._made:
            former, steps = self._former(len(rows))
            alike = torch.bmm(rows, former.mT)
            # A bias is the weight of one more input, which is 1 in every row.
            made.baddbmm_(alike if self._bias is None else alike.add_(1), steps)
        return made

    def take(self, rows: Tensor, gradients: Tensor, passed_on: bool) -> Tensor | None:
        passed = None
        if passed_on:
            passed = (gradients.flatten(0, 1) @ self._weight).view_as(rows)
            if self._made:
                former, steps = self._former(len(rows))
                passed.baddbmm_(torch.bmm(gradients, steps.mT), former)
        end = self._made + rows.shape[1]
        self._rows[: len(rows), self._made : end] = rows
        torch.mul(gradients, -self._rate, out=self._steps[: len(rows), self._made : end])
        self._made = end
        return passed

    def changes(self, weights: Tensor) -> list[Tensor]:
        steps = self._steps.mul_(weights[:, None, None]).flatten(0, 1)
        change = steps.T @ self._rows.flatten(0, 1)
        return [change] if self._bias is None else [change, steps.sum(0)]

    def _former(self, clients: int) -> tuple[Tensor, Tensor]:
        return self._rows[:clients, : self._made], self._steps[:clients, : self._made]


class _Copies(Own, _Summed):
    """Copies of the server's weights, which the clients change; see _Cheaper."""

    def __init__(self, start: list[Tensor], rate: float, clients: int) -> None:
        super().__init__(rate)
        self._start, self._copies = start, [each.expand(clients, *each.shape).clone() for each in start]
        self.weight, self.bias = self._copies[0], self._copies[1] if len(start) > 1 else None

    def changes(self, weights: Tensor) -> list[Tensor]:
        return [torch.tensordot(weights, own - each, 1) for own, each in zip(self._copies, self._start, strict=True)]
