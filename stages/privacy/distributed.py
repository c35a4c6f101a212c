"""One private step over several processes: the clipped sums are added up, and noise is added to them once."""

from collections.abc import Callable, Sequence

import torch
from torch import distributed, nn


def all_reduce_with_noise(parameters: Sequence[nn.Parameter], add_noise: Callable[[], None]) -> None:
    """Give every process the sum of all processes' `.grad`, with the noise of the first one.

    For a plain model that is the same in each process. Not inside DistributedDataParallel: book-keeping writes `.grad`
    itself, past the hooks by which that averages. Each process takes its share of one Poisson batch:

        with clipped.recording(examples=len(share)):        # a share may be empty
            losses = loss(model(share))
        clipped.backward(losses)
        all_reduce_with_noise(clipped.parameters, lambda: noise.add(clipped.parameters, deviation, q * n))
        optimiser.step()

    The noise is that of one process: its deviation is not divided by their number, and the expected batch size is that
    of all shares together.

    Args:
        parameters: Those whose gradients were clipped, in the same order in each process.
        add_noise: Called in the first process alone, once the sums are there, so that noise is never drawn twice.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.reduce(parameter.grad, dst=0)
    if distributed.get_rank() == 0:
        add_noise()
    for parameter in parameters:
        assert parameter.grad is not None
        distributed.broadcast(parameter.grad, src=0)
