"""Where a secret stands among all codes, and how much of it a model has given away."""

import math

import torch
from torch import Tensor


def rank(losses: Tensor, index: int) -> float:
    """Return the rank of one code by its loss, 1 for the lowest; of equal codes each has the mean of their ranks.

    So of a model that tells no code from another a secret is in the middle: neither found nor hidden.
    """
    own = losses[index]
    below, equal = int((losses < own).sum()), int((losses == own).sum())
    return below + (equal + 1) / 2


def exposure(candidates: int, place: float) -> float:
    """Return bits: log2 of the candidates less log2 of the rank (Carlini et al. 2019, "The Secret Sharer").

    All bits of the secret at rank 1; of a random rank log2 e, about 1.44, on average (`chance_exposure`).
    """
    return math.log2(candidates) - math.log2(place)


def chance_exposure(candidates: int) -> float:
    """Return the mean exposure over all ranks."""
    mean: Tensor = torch.arange(1, candidates + 1, dtype=torch.float64).log2().mean()
    return math.log2(candidates) - float(mean)
