"""The normalisations whose per-example gradients are known."""

from typing import Any

import torch
from torch import Tensor, nn

from stages.privacy.layers import Forward, Recorder, applied
from stages.privacy.uses import Formed, in_full

# Of transformers, by full name: copies of Llama's, each in its own module. Others (Gemma's) scale by 1 + weight.
RMS_NORMS = tuple(
    f"transformers.models.{module}.modeling_{module}.{kind}RMSNorm"
    for module, kind in (
        ("llama", "Llama"),
        ("mistral", "Mistral"),
        ("mixtral", "Mixtral"),
        ("phi3", "Phi3"),
        ("qwen2", "Qwen2"),
        ("qwen3", "Qwen3"),
    )
)


def layer_norm(layer: nn.LayerNorm, recorder: Recorder) -> Forward:
    """Record nn.LayerNorm."""

    def forward(inputs: Tensor) -> Any:
        if inputs.is_cuda and torch.is_autocast_enabled("cuda"):
            inputs = inputs.float()  # as autocast has it for layer_norm, not for native_layer_norm
        return applied(_LayerNorm, inputs, layer.weight, layer.bias, layer.normalized_shape, layer.eps, recorder)

    return forward


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[int, ...],
        epsilon: float,
        recorder: Recorder,
    ) -> Tensor:
        outputs, mean, scale = torch.native_layer_norm(inputs, shape, weight, bias, epsilon)
        context.save_for_backward(inputs, weight, bias, mean, scale)
        context.shape, context.recorder = shape, recorder
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, bias, mean, scale = context.saved_tensors
        over = tuple(range(1, gradient.dim() - len(context.shape)))
        if weight.requires_grad:
            normalised = (in_full(inputs) - mean).mul_(scale).mul_(gradient)
            context.recorder.record(weight, Formed(normalised.sum(over) if over else normalised))
        if bias is not None and bias.requires_grad:
            context.recorder.record(bias, Formed(in_full(gradient).sum(over) if over else in_full(gradient)))
        needed = [context.needs_input_grad[0], False, False]
        found = torch.ops.aten.native_layer_norm_backward(
            gradient, inputs, context.shape, mean, scale, weight, bias, needed
        )
        return found[0], None, None, None, None, None


def rms_norm(layer: Any, recorder: Recorder) -> Forward:
    """Record nn.RMSNorm, or one of RMS_NORMS."""

    def forward(inputs: Tensor) -> Any:
        return applied(_RMSNorm, inputs, layer.weight, layer, recorder)

    return forward


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, layer: Any, recorder: Recorder) -> Tensor:
        context.save_for_backward(inputs, weight)
        context.layer, context.recorder = layer, recorder
        # By the class's own forward: each rounds half precision at another place.
        outputs: Tensor = type(layer).forward(layer, inputs)
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = context.saved_tensors
        last = tuple(range(-weight.dim(), 0))
        values = in_full(inputs)
        scale = torch.rsqrt(values.square().mean(last, keepdim=True) + _epsilon(context.layer, values))
        normalised = values * scale
        over = tuple(range(1, gradient.dim() - weight.dim()))
        of_weight = normalised * gradient
        context.recorder.record(weight, Formed(of_weight.sum(over) if over else of_weight))
        if not context.needs_input_grad[0]:
            return None, None, None, None
        weighted = weight * in_full(gradient)
        along = (weighted * normalised).mean(last, keepdim=True)
        return ((weighted - normalised * along) * scale).to(inputs.dtype), None, None, None


def _epsilon(layer: Any, values: Tensor) -> float:
    if not isinstance(layer, nn.RMSNorm):
        return float(layer.variance_epsilon)
    return torch.finfo(values.dtype).eps if layer.eps is None else layer.eps
