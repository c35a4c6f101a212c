"""The layers whose per-example gradients are known: how each runs while a pass is recorded.

A recorded layer computes what it always computes; its backward pass returns the gradient of its input and hands what
its own gradient is made of to the recorder, instead of forming that gradient.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.privacy.uses import Formed, Matrix, Rows, Use, in_full

Forward = Callable[..., Any]


class UnsupportedLayerError(TypeError):
    """A layer whose per-example gradients are not known, or do not exist; the message names it."""


class Recorder(Protocol):
    """What a pass is recorded by."""

    examples: int

    def record(self, parameter: Tensor, use: Use) -> None:
        """Keep one use of a parameter."""


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Call an autograd function."""
    return function.apply(*arguments)


def linear(layer: nn.Module, recorder: Recorder) -> Forward:
    """Record nn.Linear, or the Conv1D of transformers, whose weight is transposed."""
    transposed = not isinstance(layer, nn.Linear)

    def forward(inputs: Tensor) -> Any:
        return applied(_Linear, inputs, layer.weight, layer.bias, transposed, recorder)

    return forward


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, recorder: Recorder
    ) -> Tensor:
        outputs = functional.linear(inputs, weight.T if transposed else weight, bias)
        # Under autocast the outputs are narrower than the inputs and the weight, and so are their gradients.
        context.save_for_backward(inputs.to(outputs.dtype), weight, bias)
        context.transposed, context.recorder = transposed, recorder
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, bias = context.saved_tensors
        outputs = _by_position(gradient)
        if weight.requires_grad:
            context.recorder.record(weight, Matrix(_by_position(inputs), outputs, context.transposed))
        if bias is not None and bias.requires_grad:
            context.recorder.record(bias, Formed(in_full(outputs).sum(1)))
        matrix = weight.T if context.transposed else weight
        return (gradient @ matrix.to(gradient.dtype) if context.needs_input_grad[0] else None), None, None, None, None


def embedding(layer: nn.Embedding, recorder: Recorder) -> Forward:
    """Record nn.Embedding: rows shared by positions, the row of padding, ids of shape [1, positions]."""

    def forward(ids: Tensor) -> Any:
        if len(ids) == 1:
            # Position ids are given once for all examples, and each example has its own gradient of them.
            ids = ids.expand(recorder.examples, *ids.shape[1:])
        return applied(_Embedding, ids, layer.weight, layer.padding_idx, recorder)

    return forward


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, ids: Tensor, weight: Tensor, padding: int | None, recorder: Recorder) -> Tensor:
        context.save_for_backward(ids, weight)
        context.padding, context.recorder = padding, recorder
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, ...]:
        ids, weight = context.saved_tensors
        if weight.requires_grad:
            outputs = _by_position(gradient)
            ids = ids.reshape(len(ids), -1).expand(outputs.shape[:2])
            if context.padding is not None:
                outputs = outputs * (ids != context.padding)[..., None]
            context.recorder.record(weight, Rows(ids, outputs, len(weight)))
        return None, None, None, None


def given(layer: nn.Module, recorder: Recorder) -> Forward:
    """Record a layer that takes nothing and returns a named tuple of its parameters: each example has its copies."""

    def forward() -> Any:
        parameters = type(layer).forward(layer)
        return type(parameters)(*(applied(_Given, parameter, recorder) for parameter in parameters))

    return forward


class _Given(torch.autograd.Function):
    """A parameter to a copy for each example: (n, *shape)."""

    @staticmethod
    def forward(context: Any, parameter: Tensor, recorder: Recorder) -> Tensor:
        context.save_for_backward(parameter)
        context.recorder = recorder
        return parameter.expand(recorder.examples, *parameter.shape)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, None]:
        (parameter,) = context.saved_tensors
        if parameter.requires_grad:
            context.recorder.record(parameter, Formed(in_full(gradient)))
        return None, None


def _by_position(values: Tensor) -> Tensor:
    """Return (n, ..., d) as (n, positions, d)."""
    return values.reshape(len(values), -1, values.shape[-1])
