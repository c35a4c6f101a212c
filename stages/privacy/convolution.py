"""A convolution is a matrix that maps each window of its input to an output, and its gradient is that of one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_input

from stages.privacy.layers import Forward, Recorder, UnsupportedLayerError, applied
from stages.privacy.uses import Formed, Matrix, in_full


def conv1d(layer: nn.Conv1d, recorder: Recorder) -> Forward:
    """Record nn.Conv1d, padded with zeros.

    The windows are kept until the gradients are clipped: the input once for each place of the kernel. With more than
    one group each example's gradient is formed instead, which the groups make that much smaller.

    Raises:
        UnsupportedLayerError: It pads otherwise.
    """
    if layer.padding_mode != "zeros":
        raise UnsupportedLayerError(f"Conv1d with padding_mode={layer.padding_mode!r} is not supported; use 'zeros'")

    def forward(inputs: Tensor) -> Any:
        # torch's own account of padding, in which "same" has become numbers.
        padded = functional.pad(inputs, layer._reversed_padding_repeated_twice)
        return applied(_Conv1d, padded, layer.weight, layer.bias, layer.stride, layer.dilation, layer.groups, recorder)

    return forward


class _Conv1d(torch.autograd.Function):
    """Padded inputs (n, channels, length) to outputs (n, channels, positions)."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int],
        dilation: tuple[int],
        groups: int,
        recorder: Recorder,
    ) -> Tensor:
        outputs = functional.conv1d(inputs, weight, bias, stride, 0, dilation, groups)
        context.save_for_backward(inputs.to(outputs.dtype), weight, bias)
        context.stride, context.dilation, context.groups, context.recorder = stride, dilation, groups, recorder
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, bias = context.saved_tensors
        stride, dilation, groups = context.stride, context.dilation, context.groups
        if weight.requires_grad:
            windows = _windows(inputs, weight.shape[2], stride[0], dilation[0])
            context.recorder.record(weight, _use(windows, gradient, groups))
        if bias is not None and bias.requires_grad:
            context.recorder.record(bias, Formed(in_full(gradient).sum(2)))
        below = None
        if context.needs_input_grad[0]:
            below = conv1d_input(inputs.shape, weight.to(gradient.dtype), gradient, stride, 0, dilation, groups)
        return below, None, None, None, None, None, None


def _windows(inputs: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """Return what each position sees: (n, positions, channels, kernel)."""
    return inputs.unfold(2, dilation * (kernel - 1) + 1, stride)[..., ::dilation].transpose(1, 2)


def _use(windows: Tensor, gradient: Tensor, groups: int) -> Matrix | Formed:
    if groups == 1:
        return Matrix(windows.flatten(2), gradient.transpose(1, 2))
    by_group = in_full(windows).unflatten(2, (groups, -1))
    outputs = in_full(gradient).unflatten(1, (groups, -1))
    return Formed(torch.einsum("ngpt,ntgck->ngpck", outputs, by_group).flatten(1, 2))
