"""The noise that makes a clipped sum private."""

from collections.abc import Iterable

import torch
from torch import nn

# Values drawn at a time on a CPU, whose cache holds them. A multiple of 16, as torch draws: the noise stays the same.
BLOCK = 2**18


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
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
        if deviation:
            values = gradient.view(-1)
            size = BLOCK if values.device.type == "cpu" else len(values)
            drawn = values.new_empty(min(size, len(values)))
            for block in values.split(size):
                block.add_(drawn[: len(block)].normal_(0.0, deviation, generator=generator))
        parameter.grad = gradient.div_(expected_batch_size)
