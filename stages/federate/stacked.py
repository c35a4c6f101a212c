"""One model as several, each with weights of its own: the rows of C clients are one batch to all but linear layers.

A linear layer multiplies each client's rows by that client's weights, and in the backward pass the gradient goes where
it is wanted. For plain SGD that is the weights themselves: no gradient is ever in memory, and weights are passed over
once instead of five times, which is most of a small client's time.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd import Function


def layers(model: nn.Module) -> list[nn.Linear] | None:
    """Return a model's trained layers in the order of its parameters; None if others are trained than linear ones."""
    found = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.weight.requires_grad]
    theirs = [parameter for layer in found for parameter in layer.parameters()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    alike = len(theirs) == len(trained) and all(one is other for one, other in zip(theirs, trained, strict=True))
    return found if alike else None


class Weights(ABC):
    """A layer's weights, as each client has them."""

    @abstractmethod
    def multiply(self, rows: Tensor) -> Tensor:
        """Return (C, n, out) what the weights of C clients make of (C, n, in) rows of theirs."""

    @abstractmethod
    def take(self, rows: Tensor, gradients: Tensor, passed_on: bool) -> Tensor | None:
        """Take the (C, n, out) gradients of what became of rows; return those of the rows, if they are wanted."""


class StandIn:
    """What is in the place of a layer's `forward`.

    Args:
        of_model: The layer.
        weights: Of the clients.

    Attributes:
        clients: C, how many the rows of a batch belong to.
    """

    clients: int

    def __init__(self, of_model: nn.Linear, weights: Weights) -> None:
        self.of_model, self.weights, self.waiting = of_model, weights, False
        # Something must need a gradient for there to be a backward pass.
        self.anchor = torch.zeros((), device=of_model.weight.device, requires_grad=True)

    def call(self, values: Tensor) -> Tensor:
        """Return what the layer makes of the rows of all clients."""
        if self.waiting:
            raise RuntimeError("a layer that is called twice cannot make its step before it has both gradients")
        self.waiting = True
        result: Tensor = _Product.apply(values, self.anchor, self)  # type: ignore[no-untyped-call]
        return result


class Together:
    """Has stand-ins in the place of layers, in a `with` statement.

    Within it, a batch of the model is (C * n, ...): the rows of the first client, then those of the second. A layer may
    be called once in a forward pass.
    """

    def __init__(self, stand_ins: Sequence[StandIn]) -> None:
        self._stand_ins = stand_ins

    def __enter__(self) -> Self:
        for each in self._stand_ins:
            each.of_model.forward = each.call  # type: ignore[assignment, method-assign]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._stand_ins:
            del each.of_model.forward

    def begin(self, clients: int) -> None:
        """Begin a step of the first so many clients."""
        for each in self._stand_ins:
            each.clients = clients

    def end(self, number: int) -> None:
        """End the step of this number, from 0, after its backward pass."""


class Stacked(Together):
    """Has linear layers take weights that the clients have.

    Args:
        of_model: What `layers` returned.
        rate: Learning rate of SGD steps in the backward pass; None if gradients are wanted.
    """

    def __init__(self, of_model: Sequence[nn.Linear], rate: float | None) -> None:
        self._own = [Own(rate) for _ in of_model]
        super().__init__([StandIn(*each) for each in zip(of_model, self._own, strict=True)])

    def take(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Take the clients' weights, (C, *shape) of each parameter; gradients are left in tensors of that shape."""
        super().begin(len(weights[0]))
        theirs = iter(zip(weights, gradients, strict=True))
        for own, stand_in in zip(self._own, self._stand_ins, strict=True):
            own.weight, own.weight_gradient = next(theirs)
            if stand_in.of_model.bias is not None:
                own.bias, own.bias_gradient = next(theirs)


class Own(Weights):
    """Weights that each client has of its own.

    Attributes:
        weight: (C, out, in) of as many clients as rows are of, or more; with a rate, a backward pass makes a step.
        weight_gradient: Where gradients are left without a rate.
        bias: (C, out), or None.
        bias_gradient: As of the weight.
    """

    weight: Tensor
    weight_gradient: Tensor
    bias: Tensor | None = None
    bias_gradient: Tensor

    def __init__(self, rate: float | None) -> None:
        self._rate = rate

    def multiply(self, rows: Tensor) -> Tensor:
        weight = self.weight[: len(rows)]
        if self.bias is None:
            return torch.bmm(rows, weight.mT)
        return torch.baddbmm(self.bias[: len(rows), None], rows, weight.mT)

    def take(self, rows: Tensor, gradients: Tensor, passed_on: bool) -> Tensor | None:
        weight, bias = self.weight[: len(rows)], None if self.bias is None else self.bias[: len(rows)]
        passed = torch.bmm(gradients, weight) if passed_on else None
        if self._rate is not None:
            weight.baddbmm_(gradients.mT, rows, alpha=-self._rate)
            if bias is not None:
                bias.sub_(gradients.sum(1), alpha=self._rate)
            return passed
        torch.bmm(gradients.mT, rows, out=self.weight_gradient)
        if bias is not None:
            torch.sum(gradients, 1, out=self.bias_gradient)
        return passed


class _Product(Function):
    """The rows of each client by its weights."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, anchor: Tensor, stand_in: StandIn) -> Tensor:
        del anchor
        rows = values.reshape(stand_in.clients, -1, values.shape[-1])
        ctx.stand_in, ctx.rows, ctx.shape = stand_in, rows, values.shape
        return stand_in.weights.multiply(rows).view(*values.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        of_products = gradients[0].reshape(*ctx.rows.shape[:2], -1)
        passed = ctx.stand_in.weights.take(ctx.rows, of_products, ctx.needs_input_grad[0])
        ctx.stand_in.waiting = False
        return None if passed is None else passed.view(ctx.shape), None, None
