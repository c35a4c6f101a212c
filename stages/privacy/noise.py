"""The noise that makes a clipped sum private."""

from collections.abc import Iterable

import torch
from torch import nn


def add_noise(
    parameters: Iterable[nn.Parameter], deviation: float, expected_batch_size: int, generator: torch.Generator
) -> None:
    """Turn the clipped sums in `.grad` into the private means that an optimiser steps by.

    Args:
        parameters: Those whose gradients were clipped; one without any gets noise all the same.
        deviation: Standard deviation of the noise on the sum: noise multiplier x clipping norm. Nothing is drawn for 0.
        expected_batch_size: The divisor. Not the size drawn, which for a Poisson batch depends on the data.
        generator: On the parameters' device. Seeded, it is no secret: for experiments only.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if deviation:
            drawn = torch.empty_like(parameter).normal_(0.0, deviation, generator=generator)
            parameter.grad += drawn
        parameter.grad /= expected_batch_size
