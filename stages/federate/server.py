"""The server's side: what each client counts for, the cohort's update, and the optimiser that takes it.

The sum of a round is that of the clients' weights, in float64. Since the server's own weights are subtracted from it
as often as clients were added, it is the sum of their updates, however far the clients went.
"""

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor

from stages.federate.client import Task
from stages.federate.population import Participant
from stages.federate.settings import SGD, Adagrad, Adam, FederateSettings, Mean, ServerSettings, ServerSGD


def weight(settings: FederateSettings, client: Participant) -> float:
    """Return what a client's weights are multiplied by in the sum of the cohort."""
    examples, times = len(client.rows), client.times
    match settings.mechanism:
        case "fedavg" | "fedprox":
            match settings.weighting:
                case None:
                    return float(times * examples)
                case "equal":
                    return float(times)
                case "horvitz_thompson" | "hajek":
                    return times * examples / client.expected
        case "dp_fedavg" | "dp_ftrl":
            # A client with more examples counts for no more, or its update would be bounded by a larger norm.
            return 1.0
        case "scaffold":
            # Option II averages over clients, not over examples (Karimireddy et al. 2020, algorithm 1, line 16).
            return 1.0
        case "fednova":
            return examples / normaliser(settings, client.steps)
    assert_never(settings.mechanism)


def normaliser(settings: FederateSettings, steps: int) -> float:
    """Return ||a||_1 of FedNova: how many gradients, as weighted by the client's optimiser, an update of it adds up.

    It is how far gradients of one would take the client, in learning rates: the number of steps for plain SGD, and the
    closed forms of Wang et al. 2020 (section 4.2) for momentum and for a proximal term.
    """
    assert isinstance(settings.client, SGD)
    buffer, way = 0.0, 0.0
    for _ in range(steps):
        buffer = settings.client.momentum * buffer + 1 - (settings.mu or 0.0) * settings.learning_rate * way
        way += buffer
    return way


def mean_update(
    settings: FederateSettings, start: Tensor, total: Tensor, tasks: Sequence[Task], examples: int
) -> Tensor:
    """Return the (P,) update of a cohort in float64, the server's pseudo-gradient with its sign turned.

    Args:
        settings: Of the algorithm.
        start: (P,) weights the clients started from; zeros if what is summed are their updates.
        total: (P,) their weights summed, each times its task's `weight`, in float64.
        tasks: Of the clients that reported, at least one.
        examples: Of all clients that could have been drawn.
    """
    weights = sum(task.weight for task in tasks)
    update = total - weights * start.double()
    # Weights of Horvitz and Thompson add up to all examples on average alone.
    update /= examples if settings.weighting == "horvitz_thompson" else weights
    if settings.mechanism != "fednova":
        return update
    # x + tau_eff sum_k p_k d_k (Wang et al. 2020, equation 8), tau_eff = sum_k p_k ||a_k||_1, p_k = n_k / n.
    sizes = [len(task.rows) for task in tasks]
    normalisers = [normaliser(settings, task.steps) for task in tasks]
    effective = sum(n * each for n, each in zip(sizes, normalisers, strict=True)) / sum(sizes)
    return update * (effective * weights / sum(sizes))


class ServerOptimiser:
    """The server's optimiser over (P,) weights; its moments are kept from round to round, in float64.

    FedOpt is algorithm 2 of Reddi et al. 2021, without bias correction, its second moment starting at tau^2.
    """

    def __init__(self, settings: ServerSettings, size: int) -> None:
        self._settings = settings
        self._first = torch.zeros(size, dtype=torch.float64)
        self._second = torch.zeros(size, dtype=torch.float64)
        if isinstance(settings, Adam | Adagrad):
            self._second += settings.tau**2

    def step(self, weights: Tensor, update: Tensor) -> Tensor:
        """Return the next weights, (P,) as given; `update` is what `mean_update` returned."""
        match self._settings:
            case Mean():
                change = update
            case ServerSGD(learning_rate=rate, momentum=momentum):
                self._first = momentum * self._first + update
                change = rate * self._first
            case Adam() | Adagrad() as adaptive:
                change = self._adapted(adaptive, update)
        return (weights.double() + change).to(weights.dtype)

    def _adapted(self, settings: Adam | Adagrad, update: Tensor) -> Tensor:
        self._first = settings.beta1 * self._first + (1 - settings.beta1) * update
        square = update.square()
        match settings.kind:
            case "adagrad":
                self._second += square
            case "yogi":
                assert isinstance(settings, Adam)
                self._second -= (1 - settings.beta2) * square * torch.sign(self._second - square)
            case "adam":
                assert isinstance(settings, Adam)
                self._second = settings.beta2 * self._second + (1 - settings.beta2) * square
        return settings.learning_rate * self._first / (self._second.sqrt() + settings.tau)
