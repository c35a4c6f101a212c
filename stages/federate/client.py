"""What clients do in a round: a pure function of the server's weights, their examples and their seeds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.federate.factored import Factored
from stages.federate.optimisers import LocalOptimiser
from stages.federate.secure_aggregation import Masks
from stages.federate.settings import FederateSettings
from stages.federate.stacked import Stacked, Together, layers
from stages.federate.weights import Layout
from stages.models.text_model import Objective

# (how many clients are still at it, number of the step from 0) -> their losses, summed over their batches
Step = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Workload:
    """What is the same for all clients and rounds, and goes to every process once.

    Attributes:
        model: Trained are its parameters that require a gradient.
        inputs: What `model` takes, first dimension n: all examples of the federation.
        objective: (what the model says, rows) -> (rows,) losses.
        settings: Of the clients: epochs, batch size, optimiser, proximal term.
        vectorised: Whether several clients are trained at once. Of the model only linear layers may be trained, each
            called once; what it says of a row must depend on no other row, and on no random number.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    objective: Objective
    settings: FederateSettings
    vectorised: bool

    @property
    def only_summed(self) -> bool:
        """Whether `summed` trains its clients: they make nothing but steps of SGD, and only the sum is wanted."""
        in_the_clear = self.settings.privacy is None and self.settings.secure_aggregation is None
        return self.vectorised and self.settings.plain and in_the_clear


class Task(NamedTuple):
    """What one client of a cohort is to do.

    Attributes:
        slot: Its place in the cohort.
        rows: (n,) the examples it holds, n >= 1.
        steps: Local steps it makes, at least 1.
        weight: Of its weights in the cohort's sum; at most 1 if they are masked.
        order: Seed of the order of its examples.
        dropout: Seed of dropout.
        clipping_norm: What the norm of its update is clipped to; it is not if None.
        masks: Of secure aggregation; its update is summed in the clear if None.
    """

    slot: int
    rows: NDArray[np.int64]
    steps: int
    weight: float
    order: int
    dropout: int
    clipping_norm: float | None = None
    masks: Masks | None = None


class Outcome(NamedTuple):
    """What is said of a client beside its weights.

    Attributes:
        loss: Mean loss of the examples of its last epoch, as seen while it lasted.
        norm: Of its update before clipping; None if it is not clipped.
        clipped: Values of its update that were beyond the range of secure aggregation.
    """

    loss: float
    norm: float | None
    clipped: int = 0


class Summed(NamedTuple):
    """The (P,) sum of some clients' updates, each times its weight, and what is said of each client."""

    update: Tensor
    outcomes: list[Outcome]


class Updates(NamedTuple):
    """What C clients made of the server's weights.

    Attributes:
        weights: (C, P) theirs, of which the server's are subtracted when they are summed; or, where they are clipped,
            their updates.
        outcomes: (C,) what is said of each.
    """

    weights: Tensor
    outcomes: list[Outcome]


def update(
    workload: Workload,
    start: Tensor,
    tasks: Sequence[Task],
    corrections: Tensor | None = None,
    into: Tensor | None = None,
) -> Updates:
    """Train clients from the same weights: one, or several at once if the workload is vectorised.

    Args:
        workload: See there.
        start: (P,) the server's weights, on the model's device.
        tasks: One per client, in descending order of their steps.
        corrections: (C, P) what SCAFFOLD adds to each client's gradients, c - c_i.
        into: (C or more, P) memory for the clients' weights, which is dear to get anew; by default it is.

    Returns:
        Those of a client do not depend on the others, up to rounding.
    """
    layout, settings = Layout(workload.model), workload.settings
    weights = start.new_empty(len(tasks), layout.size) if into is None else into[: len(tasks)]
    weights.copy_(start)
    batches = _batches(tasks, settings).to(start.device)
    optimiser = LocalOptimiser(settings, layout, start, weights, corrections)
    workload.model.train()
    if workload.vectorised:
        with _Optimised(_layers(workload), layout, optimiser, settings.learning_rate) as stack:
            losses = _losses(_together(workload, batches, stack), tasks)
    else:
        torch.manual_seed(tasks[0].dropout)
        with layout.lent(workload.model, weights[0]) as parameters, _sparse(workload.model, optimiser.plain):
            losses = _losses(_alone(workload, parameters, batches[0], optimiser), tasks)
    means = _last_means(tasks, losses, batches, settings)
    bound = tasks[0].clipping_norm
    norms = [None] * len(tasks) if bound is None else _clip(weights, start, bound)
    return Updates(weights, [Outcome(*each) for each in zip(means, norms, strict=True)])


def summed(workload: Workload, start: Tensor, tasks: Sequence[Task]) -> Summed:
    """Train clients at once and add up their updates, which are never made: see stages/federate/factored.py.

    Args:
        workload: One of which clients are only summed.
        start: (P,) the server's weights, on the model's device.
        tasks: One per client, in descending order of their steps.
    """
    settings = workload.settings
    layout, batches = Layout(workload.model), _batches(tasks, settings).to(start.device)
    workload.model.train()
    of_start = layout.views(start)
    with Factored(_layers(workload), of_start, settings.learning_rate, len(tasks), tasks[0].steps) as factored:
        losses = _losses(_together(workload, batches, factored), tasks)
        changes = factored.changes(torch.tensor([task.weight for task in tasks], device=start.device))
    change = torch.cat([each.flatten() for each in changes])
    return Summed(change, [Outcome(mean, None) for mean in _last_means(tasks, losses, batches, settings)])


def _layers(workload: Workload) -> list[nn.Linear]:
    found = layers(workload.model)
    assert found is not None
    return found


def _clip(weights: Tensor, start: Tensor, bound: float) -> list[float]:
    """Turn weights (C, P) into updates of a norm of at most `bound`, in place; return the norms that they had.

    What is not finite adds nothing.
    """
    weights.sub_(start)
    norms = weights.double().norm(dim=1)
    finite = norms.isfinite()
    weights[~finite] = 0
    weights.mul_((bound / norms.where(finite, bound).clamp(min=bound))[:, None])
    found: list[float] = norms.tolist()
    return found


def _losses(step: Step, tasks: Sequence[Task]) -> list[list[float]]:
    """Make all steps; return the losses of each client's batches."""
    losses = []
    for number in range(tasks[0].steps):
        active = sum(task.steps > number for task in tasks)
        losses.append(step(active, number))
    made = nn.utils.rnn.pad_sequence(losses, batch_first=True).T.tolist()
    return [own[: task.steps] for own, task in zip(made, tasks, strict=True)]


def _batches(tasks: Sequence[Task], settings: FederateSettings) -> Tensor:
    """Return (C, steps, size) rows of each client's batches; -1 where a batch is smaller, or a client has made all."""
    size = min(settings.batch_size, max(len(task.rows) for task in tasks))
    batches = torch.full((len(tasks), tasks[0].steps, size), -1)
    for client, task in enumerate(tasks):
        rows, draws = torch.from_numpy(task.rows), torch.Generator().manual_seed(task.order)
        epoch = torch.full((ceil(len(rows) / size), size), -1)
        for first in range(0, task.steps, len(epoch)):
            epoch.view(-1)[: len(rows)] = rows[torch.randperm(len(rows), generator=draws)]
            end = min(first + len(epoch), task.steps)
            batches[client, first:end] = epoch[: end - first]
    return batches


def _alone(workload: Workload, parameters: list[nn.Parameter], batches: Tensor, optimiser: LocalOptimiser) -> Step:
    """Return the step of one client, whose weights are the model's own for the time being."""
    sizes = (batches >= 0).sum(1).tolist()

    def step(active: int, number: int) -> Tensor:
        del active
        rows = batches[number, : sizes[number]]
        losses = workload.objective(workload.model(*(tensor[rows] for tensor in workload.inputs)), rows)
        gradients = torch.autograd.grad(losses.mean(), parameters)
        optimiser.step([gradient if gradient.is_sparse else gradient[None] for gradient in gradients], number)
        return losses.detach().sum()[None]

    return step


@contextmanager
def _sparse(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Have embeddings give gradients of the rows that a batch names, if wanted, and not of all, most of them zero."""
    dense = [each for each in model.modules() if isinstance(each, nn.Embedding) and not each.sparse] if wanted else []
    for each in dense:
        each.sparse = True
    try:
        yield
    finally:
        for each in dense:
            each.sparse = False


class _Optimised(Stacked):
    """Stacked layers, and an optimiser that takes their gradients."""

    def __init__(self, of_model: Sequence[nn.Linear], layout: Layout, optimiser: LocalOptimiser, rate: float) -> None:
        super().__init__(of_model, rate if optimiser.plain else None)
        self._layout, self._optimiser = layout, optimiser
        self._gradients: list[Tensor] = []

    def begin(self, clients: int) -> None:
        weights = self._optimiser.weights(clients)
        if not self._gradients or len(self._gradients[0]) != clients:
            flat = weights[0].new_empty(clients, 0 if self._optimiser.plain else self._layout.size)
            self._gradients = weights if self._optimiser.plain else self._layout.views(flat)
            self.take(weights, self._gradients)

    def end(self, number: int) -> None:
        if not self._optimiser.plain:
            self._optimiser.step(self._gradients, number)


def _together(workload: Workload, batches: Tensor, together: Together) -> Step:
    """Return the step of several clients, by one pass over the batches of all."""
    rows, kept = batches.clamp(min=0), (batches >= 0).float()
    shares = kept / kept.sum(2, keepdim=True).clamp(min=1)

    def step(active: int, number: int) -> Tensor:
        together.begin(active)
        here = rows[:active, number].flatten()
        losses = workload.objective(workload.model(*(tensor[here] for tensor in workload.inputs)), here)
        losses = losses.view(active, -1)
        # A client's loss depends on its own weights alone, so the gradient of their sum is each one's own.
        torch.autograd.backward(losses, shares[:active, number])
        together.end(number)
        return (losses.detach() * kept[:active, number]).sum(1)

    return step


def _last_means(
    tasks: Sequence[Task], losses: list[list[float]], batches: Tensor, settings: FederateSettings
) -> list[float]:
    """Return the mean loss of each client over the epoch in which it made its last step."""
    means = []
    for task, own, sizes in zip(tasks, losses, (batches >= 0).sum(2).tolist(), strict=True):
        epoch = ceil(len(task.rows) / settings.batch_size)
        begin = (task.steps - 1) // epoch * epoch
        means.append(sum(own[begin:]) / sum(sizes[begin : task.steps]))
    return means
