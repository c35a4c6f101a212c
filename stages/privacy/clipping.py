"""Clip the gradient of every example exactly, at about the price of an ordinary step."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.models.recurrent import LSTM
from stages.privacy import layers
from stages.privacy.bounds import Bound, checked, flat
from stages.privacy.convolution import conv1d
from stages.privacy.layers import UnsupportedLayerError
from stages.privacy.normalisation import RMS_NORMS, layer_norm, rms_norm
from stages.privacy.recurrent import lstm
from stages.privacy.uses import Formed, Use, in_full, inner_products, merged

# By full name where the class is another package's, so that nothing is imported for it.
KNOWN: dict[type | str, Callable[..., layers.Forward]] = {
    nn.Linear: layers.linear,
    "transformers.pytorch_utils.Conv1D": layers.linear,
    nn.Embedding: layers.embedding,
    nn.Conv1d: conv1d,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    **dict.fromkeys(RMS_NORMS, rms_norm),
    **dict.fromkeys((nn.LSTM, LSTM), lstm),
    "stages.models.crf.Chain": layers.given,
}


class Clipping(Protocol):
    """A way to the clipped sum: by book-keeping, as here, or by one of its peers (references.py).

    Attributes:
        parameters: The trained ones.
        group: How many examples, one after the other in a pass, are clipped as one.
        clipping_norm: May be set anew between passes.
    """

    parameters: list[nn.Parameter]
    group: int
    clipping_norm: float

    def add_clipped_sum(self, forward: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Add the clipped sum of some examples' gradients to `.grad`; passes add up.

        Args:
            forward: Returns (n,) losses of n rows, in their order.
            rows: (n,) at least one.

        Returns:
            (n,) losses, and (n / group,) norms before clipping; both are private.
        """


class ClippedGradients:
    """The sum of a batch's per-example gradients, each scaled to an L2 norm of at most `clipping_norm`.

    The norm is over all trained parameters (flat clipping), unless `bounds` divide it among layers. The model must
    treat examples one by one and have them in the first dimension of everything that its layers take, in the order of
    the losses. A pass:

        with clipped.recording(examples=len(inputs)):
            losses = loss(model(inputs))        # (n,), one per example
        norms = clipped.backward(losses)        # adds the clipped sum to every parameter's .grad

    Several passes add up, which is how a large batch is taken in pieces. Source: Abadi et al. 2016, algorithm 1.

    Args:
        model: Its trained parameters must all be in layers of KNOWN.
        clipping_norm: Above 0; may be set anew between passes. Infinite, nothing is clipped.
        group: How many examples, one after the other in a batch, have their mean gradient clipped as one. With more
            than 1 an example can move the sum by twice the clipping norm: its guarantee is another one (accounting).
        bounds: The parts of the gradient that are clipped apart, each to its share of the clipping norm; flat if None.

    Raises:
        UnsupportedLayerError: The model has a layer that is not known, or that mixes examples.
        ValueError: The clipping norm is not above 0, the group has no example, or the bounds are not of this model.
    """

    def __init__(
        self, model: nn.Module, clipping_norm: float, group: int = 1, bounds: Sequence[Bound] | None = None
    ) -> None:
        if not clipping_norm > 0:
            raise ValueError(f"a clipping norm is above 0, not {clipping_norm}")
        if group < 1:
            raise ValueError(f"a group has at least one example, not {group}")
        self.clipping_norm, self.group = clipping_norm, group
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.parameters = list(trained.values())
        self._names = list(trained)
        self.bounds = checked(flat(model) if bounds is None else bounds, self.parameters)
        self._part: dict[Tensor, int] = {
            parameter: part for part, bound in enumerate(self.bounds) for parameter in bound.parameters
        }
        self.examples = 0
        self._layers = _recorded(model)
        self._uses: dict[Tensor, list[Use]] = {}

    def record(self, parameter: Tensor, use: Use) -> None:
        """Keep one use of a parameter; layers call this in the backward pass."""
        self._uses.setdefault(parameter, []).append(use)

    @contextmanager
    def recording(self, examples: int) -> Iterator[None]:
        """Have the layers keep what their gradients are made of, for a batch of `examples`.

        Raises:
            ValueError: They are not whole groups.
        """
        if examples % self.group:
            raise ValueError(f"{examples} examples are no whole groups of {self.group}")
        self.examples = examples
        if self._one_group:
            yield
            return
        originals = [(layer, layer.__dict__.get("forward")) for layer, _ in self._layers]
        for layer, known in self._layers:
            layer.forward = known(layer, self)
        try:
            yield
        finally:
            for layer, original in originals:
                if original is None:
                    del layer.forward
                else:
                    layer.forward = original

    @property
    def _one_group(self) -> bool:
        """Whether the pass is one group of several: its gradient is what an ordinary backward pass forms."""
        return 1 < self.group == self.examples

    def add_clipped_sum(self, forward: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Run a pass; see Clipping."""
        with self.recording(len(rows)):
            losses = forward(rows)
        return losses.detach(), self.backward(losses)

    def backward(self, losses: Tensor) -> Tensor:
        """Add the clipped sum of the examples' gradients to `.grad`; return their norms before clipping.

        Args:
            losses: (n,) one per example. An example, or group, whose gradient is not finite adds nothing.

        Returns:
            (n / group,) norms, which are private: they are the examples' own. Not finite where the gradient is not.

        Raises:
            UnsupportedLayerError: A parameter is used otherwise than by its layer, so that a part of its gradient would
                not be clipped.
            ValueError: There is not one loss per example.
        """
        if losses.shape != (self.examples,):
            raise ValueError(f"one loss per example: ({self.examples},), not {tuple(losses.shape)}")
        uses = self._uses_in_backward(losses)
        # A caller's autocast would round norms and sums.
        with torch.no_grad(), torch.autocast(losses.device.type, enabled=False):
            squares = self._squared_norms(
                uses, in_full(losses).new_zeros(len(self.bounds), self.examples // self.group)
            )
            norms = squares.sum(0).sqrt_()
            by_part = [
                _factors(part, self.clipping_norm * bound.share)
                for part, bound in zip(squares.sqrt_(), self.bounds, strict=True)
            ]
            finite = norms.isfinite()
            all_finite = bool(finite.all())
            # From the last, so that a table of embeddings, the largest gradient, is formed when the rest is freed.
            for parameter in reversed(self.parameters):
                factors = by_part[self._part[parameter]]
                # Popped, so that what a layer kept is freed as soon as its gradient is there.
                for use in uses.pop(parameter, ()):
                    # What is not finite stays so however it is scaled, so it is left out.
                    gradient = use.scaled_sum(factors) if all_finite else use.of(finite).scaled_sum(factors[finite])
                    gradient = gradient.view_as(parameter).to(parameter.dtype)
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        return norms

    def _squared_norms(self, uses: dict[Tensor, list[Use]], squares: Tensor) -> Tensor:
        """Add to `squares`, (parts, n / group)."""
        for parameter, found in uses.items():
            total = squares[self._part[parameter]]
            for place, use in enumerate(found):
                total += use.squared_norms()
                for other in found[:place]:
                    total += 2 * inner_products(use, other)
        return squares

    def _uses_in_backward(self, losses: Tensor) -> dict[Tensor, list[Use]]:
        """Run the backward pass; return what each parameter's gradients, of examples or groups, are made of."""
        if not self.examples:
            return {}
        self._uses.clear()
        gradients = self._run_backward(losses.sum() / self.group)
        if self._one_group:
            return {parameter: [Formed(in_full(gradient)[None])] for parameter, gradient in gradients.items()}
        for name, parameter in zip(self._names, self.parameters, strict=True):
            if parameter in gradients:
                raise UnsupportedLayerError(f"{name}: is used otherwise than by its layer, where it cannot be clipped")
        uses = {parameter: merged(found) for parameter, found in self._uses.items()}
        self._uses.clear()
        if self.group > 1:
            return {parameter: [use.grouped(self.group) for use in found] for parameter, found in uses.items()}
        return uses

    def _run_backward(self, loss: Tensor) -> dict[Tensor, Tensor]:
        """Have the layers record; return the gradients that reach parameters past them, whose `.grad` is as it was."""
        before = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        # What is kept is in the precision of the forward pass; a caller's autocast has no say in it.
        with torch.autocast(loss.device.type, enabled=False):
            loss.backward()
        found: dict[Tensor, Tensor] = {
            parameter: parameter.grad for parameter in self.parameters if parameter.grad is not None
        }
        for parameter, gradient in zip(self.parameters, before, strict=True):
            parameter.grad = gradient
        return found


def _factors(norms: Tensor, bound: float) -> Tensor:
    return torch.ones_like(norms) if math.isinf(bound) else bound / norms.clamp(min=bound)


def _recorded(model: nn.Module) -> list[tuple[Any, Callable[..., layers.Forward]]]:
    """Return the layers with trained parameters, and how each is recorded."""
    found = []
    for name, layer in model.named_modules():
        kind = type(layer).__name__
        full = f"{type(layer).__module__}.{kind}"
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise UnsupportedLayerError(f"{name}: {kind} mixes the examples of a batch; use LayerNorm")
        if not any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            continue
        known = KNOWN.get(type(layer)) or KNOWN.get(full)
        if known is None:
            names = sorted({each.rpartition(".")[2] if isinstance(each, str) else each.__name__ for each in KNOWN})
            raise UnsupportedLayerError(
                f"{name or 'the model'}: the per-example gradients of {kind} are not known; known: {', '.join(names)}"
            )
        found.append((layer, known))
    return found
