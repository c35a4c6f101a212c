"""Codes: what may stand in the place of a secret. A code of n words is n indices of an alphabet of V."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        code: The answer: of all codes that were the likeliest at some step, or tried, that with the lowest loss.
        loss: Its discrete loss.
        steps: Of Adam taken, or passes over the words.
        visited: How many codes those are.
    """

    code: tuple[int, ...]
    loss: float
    steps: int
    visited: int


def codes(places: Tensor, length: int, alphabet: int) -> Tensor:
    """Return (batch, length) words of the codes at these places (batch,) of all V^n, the first word varying slowest."""
    powers = alphabet ** torch.arange(length - 1, -1, -1, device=places.device)
    return places[:, None] // powers % alphabet
