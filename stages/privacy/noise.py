"""The noise that makes a clipped sum private."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

# A larger tensor on a CPU is drawn by several generators, each with blocks of its own, in as many threads as torch has:
# the noise does not depend on their number. A block is drawn, added and divided while a cache holds it, and torch gives
# no operation of one so small to further threads.
LARGE, GENERATORS, BLOCK = 2**18, 4, 2**15


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
        threads = torch.get_num_threads()
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
            values = gradient.view(-1)
            if values.device.type != "cpu" or len(values) <= LARGE:
                _add([values], self._generator, deviation, expected_batch_size)
            else:
                self._add_to_large(values, deviation, expected_batch_size, threads)
            parameter.grad = gradient

    def _add_to_large(self, values: Tensor, deviation: float, expected_batch_size: int, threads: int) -> None:
        blocks = values.split(BLOCK)
        parts = [(blocks[number::GENERATORS], each) for number, each in enumerate(self._of_large)]
        if threads == 1:
            for part in parts:
                _add(*part, deviation, expected_batch_size)
            return
        with ThreadPoolExecutor(min(threads, GENERATORS)) as pool:
            for added in [pool.submit(_add, *part, deviation, expected_batch_size) for part in parts]:
                added.result()


def _add(blocks: Sequence[Tensor], generator: torch.Generator, deviation: float, expected_batch_size: int) -> None:
    drawn = blocks[0].new_empty(len(blocks[0]) if deviation else 0)
    for block in blocks:
        if deviation:
            block.add_(drawn[: len(block)].normal_(0.0, deviation, generator=generator))
        block.div_(expected_batch_size)
