"""One model as several, each with weights of its own: the rows of C clients are one batch to all but linear layers.

A linear layer multiplies each client's rows by that client's weights, and in the backward pass the gradient goes where
it is wanted. For plain SGD that is the weights themselves: no gradient is ever in memory, and weights are passed over
once instead of five times, which is most of a small client's time.
"""

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


class Stacked:
    """Has linear layers take the weights of several clients, in a `with` statement.

    Within it, a batch of the model is (C * n, ...): the rows of the first client, then those of the second. A layer may
    be called once in a forward pass.

    Args:
        of_model: What `layers` returned.
        rate: Learning rate of SGD steps in the backward pass; None if gradients are wanted.
    """

    def __init__(self, of_model: Sequence[nn.Linear], rate: float | None) -> None:
        self._layers = [_Layer(layer, rate) for layer in of_model]

    def __enter__(self) -> Self:
        for layer in self._layers:
            layer.of_model.forward = layer.call  # type: ignore[assignment, method-assign]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._layers:
            del layer.of_model.forward

    def take(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Take the clients' weights, (C, *shape) of each parameter; gradients are left in tensors of that shape."""
        theirs = iter(zip(weights, gradients, strict=True))
        for layer in self._layers:
            layer.weight, layer.weight_gradient = next(theirs)
            if layer.of_model.bias is not None:
                layer.bias, layer.bias_gradient = next(theirs)


class _Layer:
    """A layer in the place of its `forward`."""

    weight: Tensor
    weight_gradient: Tensor
    bias: Tensor | None = None
    bias_gradient: Tensor

    def __init__(self, of_model: nn.Linear, rate: float | None) -> None:
        self.of_model, self.rate, self.waiting = of_model, rate, False
        # Something must need a gradient for there to be a backward pass.
        self.anchor = torch.zeros((), device=of_model.weight.device, requires_grad=True)

    def call(self, values: Tensor) -> Tensor:
        """Return what the layer makes of the rows of all clients."""
        if self.waiting:
            raise RuntimeError("a layer that is called twice cannot make its step before it has both gradients")
        self.waiting = True
        result: Tensor = _Product.apply(values, self.anchor, self)  # type: ignore[no-untyped-call]
        return result


class _Product(Function):
    """The rows of each client by its weights."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, anchor: Tensor, layer: _Layer) -> Tensor:
        del anchor
        weight, bias = layer.weight, layer.bias
        rows = values.reshape(len(weight), -1, values.shape[-1])
        ctx.layer, ctx.rows, ctx.shape = layer, rows, values.shape
        made = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
        return made.view(*values.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        layer, rows = ctx.layer, ctx.rows
        out = gradients[0].reshape(len(rows), rows.shape[1], -1)
        passed = torch.bmm(out, layer.weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        if layer.rate is None:
            torch.bmm(out.mT, rows, out=layer.weight_gradient)
        else:
            layer.weight.baddbmm_(out.mT, rows, alpha=-layer.rate)
        if layer.bias is not None and layer.rate is None:
            torch.sum(out, 1, out=layer.bias_gradient)
        elif layer.bias is not None:
            layer.bias.sub_(out.sum(1), alpha=layer.rate)
        layer.waiting = False
        return passed, None, None
