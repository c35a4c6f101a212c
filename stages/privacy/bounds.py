"""How a clipping norm C is divided among the layers of a model: C_l, with sqrt(sum C_l^2) = C.

Whatever the rule, a gradient whose layers are clipped to C_l has a norm of at most C. So sensitivity, noise (one
standard deviation on all parameters) and epsilon are those of flat clipping.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# A layer that random texts hardly reach still takes this part of the largest norm, or it would learn nothing.
LEAST_PART = 1e-3


@dataclass(frozen=True)
class Bound:
    """A part of the gradient that is clipped apart.

    Attributes:
        name: Of the layer; empty for the whole model.
        parameters: Trained ones.
        share: What C is multiplied by to give the largest norm of the part.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    share: float

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(parameter.numel() for parameter in self.parameters)


def checked(bounds: Sequence[Bound], trained: Sequence[nn.Parameter]) -> list[Bound]:
    """Return bounds that keep a gradient's norm within C.

    Raises:
        ValueError: They are not of exactly the trained parameters, a share is not above 0, or together they exceed C.
    """
    bounded = [id(parameter) for bound in bounds for parameter in bound.parameters]
    if sorted(bounded) != sorted(map(id, trained)):
        raise ValueError("each trained parameter is bounded once, and no other")
    if not all(bound.share > 0 for bound in bounds):
        raise ValueError("each share is above 0")
    if (total := math.hypot(*(bound.share for bound in bounds))) > 1 + 1e-9:
        raise ValueError(f"the shares make a norm of {total:g} clipping norms, not at most 1")
    return list(bounds)


def flat(model: nn.Module) -> list[Bound]:
    """Clip all trained parameters by one norm: C. Source: Abadi et al. 2016, algorithm 1."""
    return [Bound("", tuple(parameter for parameter in model.parameters() if parameter.requires_grad), 1.0)]


def equal(model: nn.Module) -> list[Bound]:
    """Bound each of L layers by C / sqrt(L). Source: McMahan et al. 2018, section 2.3."""
    return _divided(model, lambda _: 1.0)


def by_size(model: nn.Module) -> list[Bound]:
    """Bound a layer with d_l of the d trained values by C sqrt(d_l / d)."""
    return _divided(model, lambda layer: math.sqrt(layer.size))


def by_public_norms(model: nn.Module, losses: Callable[[], Tensor]) -> list[Bound]:
    """Bound each layer in proportion to the root mean square of its gradient's norms on public examples.

    Args:
        model: At the weights that training starts from; left as it was.
        losses: Returns (n,) losses of public examples, one each: nothing here is accounted for.
    """
    training = model.training
    layers = list(_layers(model))
    squares = [0.0] * len(layers)
    # Without dropout, whose draws are training's. cuDNN's recurrent layers have no gradient in eval mode.
    model.eval()
    with torch.backends.cudnn.flags(enabled=False):
        for loss in losses():
            for place, layer in enumerate(layers):
                gradients = torch.autograd.grad(loss, layer.parameters, retain_graph=True, materialize_grads=True)
                squares[place] += sum(float(gradient.square().sum()) for gradient in gradients)
    model.train(training)
    least = LEAST_PART * math.sqrt(max(squares))
    norms = {layer.name: max(least, math.sqrt(square)) for layer, square in zip(layers, squares, strict=True)}
    return _divided(model, lambda layer: norms[layer.name])


def _divided(model: nn.Module, weigh: Callable[[Bound], float]) -> list[Bound]:
    layers = list(_layers(model))
    weights = [weigh(layer) for layer in layers]
    whole = math.hypot(*weights)
    return [Bound(layer.name, layer.parameters, weight / whole) for layer, weight in zip(layers, weights, strict=True)]


def _layers(model: nn.Module) -> Iterator[Bound]:
    """Yield each module that has trained parameters of its own; a tied one is of the first module that has it."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in seen]
        seen.update(map(id, own))
        if own:
            yield Bound(name, tuple(own), 1.0)
