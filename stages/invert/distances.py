"""How far apart two gradients are: what an inversion makes small."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Of the absolute differences beside the squared ones.
TAG_WEIGHT = 0.01
# A gradient this small beside the largest is rounding, as that of the bias of attention's keys, which moves no score.
NOTHING = 1e-6

Gradients = Sequence[Tensor]


def dlg(found: Gradients, seen: Gradients) -> Tensor:
    """Return the sum of squared differences (Zhu et al. 2019, "Deep Leakage from Gradients")."""
    apart = [(one - other).flatten() for one, other in zip(found, seen, strict=True)]
    return torch.stack([each.dot(each) for each in apart]).sum()


def tag(found: Gradients, seen: Gradients) -> Tensor:
    """Return the same and TAG_WEIGHT of the absolute differences (Deng et al. 2021, "TAG")."""
    absolute = torch.stack([(one - other).abs().sum() for one, other in zip(found, seen, strict=True)]).sum()
    return dlg(found, seen) + TAG_WEIGHT * absolute


def cosine(found: Gradients, seen: Gradients) -> Tensor:
    """Return the mean over parameters of 1 - cosine, as in LAMP (Balunovic et al. 2022).

    Parameters of which nothing is seen are left out: they have no direction.
    """
    pairs = [(one.flatten(), other.flatten()) for one, other in zip(found, seen, strict=True)]
    squares = [float(other.dot(other)) for _, other in pairs]
    least = NOTHING**2 * max(squares)
    # By dot products, which take half the time of norms.
    apart = [
        1 - one.dot(other) / (one.dot(one) * square).sqrt()
        for (one, other), square in zip(pairs, squares, strict=True)
        if square > least
    ]
    return torch.stack(apart).mean()


DISTANCES: dict[str, Callable[[Gradients, Gradients], Tensor]] = {"dlg": dlg, "tag": tag, "cosine": cosine}
