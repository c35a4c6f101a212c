"""The server's side of federated averaging (McMahan et al. 2017, algorithm 1)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.streams import generator

State = dict[str, Tensor]


def select(clients: int, per_round: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """Return the sorted clients of a round, drawn uniformly without replacement from (seed, round) alone."""
    cohort = generator(seed, "cohort", round_number)
    return np.sort(cohort.choice(clients, size=min(per_round, clients), replace=False))


def average(states: Sequence[State], weights: Sequence[float]) -> State:
    """Return the weighted mean of client states; weights are the clients' numbers of examples.

    Summed in float64 in the order given, so that the result does not depend on how clients were run.
    """
    total = float(sum(weights))
    if not states or total <= 0:
        raise ValueError("an average needs at least one client with examples")
    mean = {}
    for name, first in states[0].items():
        summed = torch.zeros_like(first, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            summed += state[name].double() * (weight / total)
        mean[name] = summed.to(first.dtype)
    return mean
