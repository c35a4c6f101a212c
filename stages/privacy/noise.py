"""The noise that makes a clipped sum private."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn

# A larger tensor on a CPU is drawn by several generators, each a part of its own, in as many threads as torch has: the
# noise does not depend on their number. A piece is drawn and added while a cache holds it, and is no smaller, since
# threads wait for the interpreter's lock between operations.
LARGE, GENERATORS, PIECE = 2**17, 4, 2**17


class Noise:
    """Normal noise from a seed, which is no secret: for experiments only.

    Args:
        seed: Of all that is drawn.
        device: Of the parameters.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        seeds = np.random.SeedSequence(seed).generate_state(GENERATORS).tolist()
        self._of_large = [torch.Generator().manual_seed(each) for each in seeds]

    def add(self, parameters: Iterable[nn.Parameter], deviation: float, expected_batch_size: int) -> None:
        """Turn the clipped sums in `.grad` into the private means that an optimiser steps by.

        Args:
            parameters: Those whose gradients were clipped; one without any gets noise all the same.
            deviation: Standard deviation of the noise on the sum: noise multiplier x clipping norm. Nothing is drawn
                for 0.
            expected_batch_size: The divisor. Not the size drawn, which for a Poisson batch depends on the data.
        """
        large = []
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
            parameter.grad, values = gradient, gradient.view(-1)
            if not deviation:
                values.div_(expected_batch_size)
            # numpy knows no bfloat16.
            elif values.device.type != "cpu" or len(values) <= LARGE or values.dtype == torch.bfloat16:
                drawn = torch.empty_like(values).normal_(0.0, deviation, generator=self._generator)
                values.add_(drawn).div_(expected_batch_size)
            else:
                large.append(values.tensor_split(GENERATORS))
        if large:
            with ThreadPoolExecutor(min(torch.get_num_threads(), GENERATORS)) as pool:
                parts = [*zip(*large, strict=True)]
                list(pool.map(_add, parts, self._of_large, repeat(deviation), repeat(expected_batch_size)))


def _add(parts: Sequence[Tensor], generator: torch.Generator, deviation: float, expected_batch_size: int) -> None:
    for part in parts:
        drawn = part.new_empty(min(PIECE, len(part)))
        for piece in part.split(PIECE):
            noise = drawn[: len(piece)].normal_(0.0, deviation, generator=generator).numpy()
            # By numpy, which wakes no threads of its own for it.
            values = piece.numpy()
            np.add(values, noise, out=values)
            np.divide(values, expected_batch_size, out=values)
