"""What clients do in a round: a pure function of the server's weights, their examples and their seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from stages.federate.settings import AdamW, FederateSettings
from stages.federate.weights import Layout
from stages.models.text_model import Objective

# (views of the clients' weights, step) -> (their gradients, the sum of the losses of each client's batch)
Gradients = Callable[[list[Tensor], int], tuple[list[Tensor], Tensor]]
# Of Adam (Kingma and Ba 2015): decay of the two moments, and what keeps from dividing by zero.
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Workload:
    """What is the same for all clients and rounds, and goes to every process once.

    Attributes:
        model: Trained are its parameters that require a gradient.
        inputs: What `model` takes, first dimension n: all examples of the federation.
        objective: (what the model says, rows) -> (rows,) losses.
        settings: Of the clients: epochs, batch size, optimiser, proximal term.
        vectorised: Whether several clients may be trained at once: the model is a fixed sequence of tensor operations
            that `vmap` knows, without randomness.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    objective: Objective
    settings: FederateSettings
    vectorised: bool


class Task(NamedTuple):
    """What one client of a cohort is to do.

    Attributes:
        slot: Its place in the cohort.
        rows: (n,) the examples it holds, n >= 1.
        steps: Local steps it makes, at least 1.
        weight: Of its weights in the cohort's sum.
        order: Seed of the order of its examples.
        dropout: Seed of dropout.
    """

    slot: int
    rows: NDArray[np.int64]
    steps: int
    weight: float
    order: int
    dropout: int


class Updates(NamedTuple):
    """What C clients made of the server's weights.

    Attributes:
        weights: (C, P) theirs, of which the server's are subtracted when they are summed.
        losses: (C,) mean loss of the examples of their last epoch, as seen while it lasted.
    """

    weights: Tensor
    losses: list[float]


def update(workload: Workload, start: Tensor, tasks: Sequence[Task], corrections: Tensor | None = None) -> Updates:
    """Train clients from the same weights: one alone, or several at once.

    Args:
        workload: See there; several clients need a vectorised one.
        start: (P,) the server's weights, on the model's device.
        tasks: One per client, in descending order of their steps.
        corrections: (C, P) what SCAFFOLD adds to each client's gradients, c - c_i.

    Returns:
        Those of a client do not depend on the others, up to rounding.
    """
    layout = Layout(workload.model)
    weights, batches = start.repeat(len(tasks), 1), _batches(tasks, workload.settings)
    workload.model.train()
    if len(tasks) > 1:
        losses = _steps(workload, layout, start, weights, tasks, corrections, _together(workload, layout, batches))
    else:
        torch.manual_seed(tasks[0].dropout)
        with layout.lent(workload.model, weights[0]) as parameters:
            gradients = _alone(workload, parameters, batches[0])
            losses = _steps(workload, layout, start, weights, tasks, corrections, gradients)
    sizes = (batches >= 0).sum(2).tolist()
    return Updates(weights, [_last_mean(*each, workload.settings) for each in zip(tasks, losses, sizes, strict=True)])


def _steps(
    workload: Workload,
    layout: Layout,
    start: Tensor,
    weights: Tensor,
    tasks: Sequence[Task],
    corrections: Tensor | None,
    gradients: Gradients,
) -> list[list[float]]:
    """Make all steps on weights (C, P) in place; return the sum of the losses of each client's batches."""
    settings, origin = workload.settings, layout.views(start)
    optimiser = _Optimiser(settings, weights)
    losses: list[list[float]] = [[] for _ in tasks]
    active = 0
    for step in range(tasks[0].steps):
        # Those behind have made all their steps.
        going = sum(task.steps > step for task in tasks)
        if going != active:
            active, now = going, layout.views(weights[:going])
            state = [layout.views(part[:going]) for part in optimiser.state]
            added = layout.views(corrections[:going]) if corrections is not None else None
        found, sums = gradients(now, step)
        if settings.mu:
            found = torch._foreach_add(found, torch._foreach_sub(now, origin), alpha=settings.mu)
        if added is not None:
            found = torch._foreach_add(found, added)
        optimiser.step(now, found, state, step + 1)
        for client, loss in enumerate(sums.tolist()):
            losses[client].append(loss)
    return losses


def _batches(tasks: Sequence[Task], settings: FederateSettings) -> Tensor:
    """Return (C, steps, size) rows of each client's batches; -1 where a batch is smaller, or a client has made all."""
    size = min(settings.batch_size, max(len(task.rows) for task in tasks))
    batches = torch.full((len(tasks), tasks[0].steps, size), -1)
    for client, task in enumerate(tasks):
        rows, draws = torch.from_numpy(task.rows), torch.Generator().manual_seed(task.order)
        step = 0
        while step < task.steps:
            order = rows[torch.randperm(len(rows), generator=draws)]
            for batch in order.split(settings.batch_size)[: task.steps - step]:
                batches[client, step, : len(batch)] = batch
                step += 1
    return batches


def _alone(workload: Workload, parameters: list[nn.Parameter], batches: Tensor) -> Gradients:
    """Return the gradients of one client, whose weights are the model's own for the time being."""
    model, inputs = workload.model, workload.inputs
    sizes = (batches >= 0).sum(1).tolist()
    batches = batches.to(parameters[0].device)

    def gradients(now: list[Tensor], step: int) -> tuple[list[Tensor], Tensor]:
        del now
        rows = batches[step, : sizes[step]]
        losses = workload.objective(model(*(tensor[rows] for tensor in inputs)), rows)
        found = torch.autograd.grad(losses.mean(), parameters)
        return [gradient[None] for gradient in found], losses.detach().sum()[None]

    return gradients


def _together(workload: Workload, layout: Layout, batches: Tensor) -> Gradients:
    """Return the gradients of several clients, by one pass over the batches of all."""
    model, inputs = workload.model, workload.inputs

    def losses_of(parameters: list[Tensor], values: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        named = dict(zip(layout.names, parameters, strict=True))
        return workload.objective(functional_call(model, named, values), rows)

    of_clients = vmap(losses_of)
    batches = batches.to(next(model.parameters()).device)
    kept = (batches >= 0).float()
    shares = kept / kept.sum(2, keepdim=True).clamp(min=1)
    rows = batches.clamp(min=0)

    def gradients(now: list[Tensor], step: int) -> tuple[list[Tensor], Tensor]:
        active = len(now[0])
        leaves = [tensor.detach().requires_grad_() for tensor in now]
        here = rows[:active, step]
        losses = of_clients(leaves, tuple(tensor[here] for tensor in inputs), here)
        # A client's loss depends on its own weights alone, so the gradient of their sum is each one's own.
        found = torch.autograd.grad((losses * shares[:active, step]).sum(), leaves)
        return list(found), (losses.detach() * kept[:active, step]).sum(1)

    return gradients


class _Optimiser:
    """A client's optimiser; `state` is what it keeps beside weights (C, P)."""

    def __init__(self, settings: FederateSettings, weights: Tensor) -> None:
        self._settings = settings.client
        self._rate = settings.learning_rate
        kept = 2 if isinstance(settings.client, AdamW) else int(settings.client.momentum > 0)
        self.state = [torch.zeros_like(weights) for _ in range(kept)]

    def step(self, weights: list[Tensor], gradients: list[Tensor], state: list[list[Tensor]], number: int) -> None:
        """Change weights and state in place; steps are numbered from 1."""
        with torch.no_grad():
            if isinstance(self._settings, AdamW):
                decay = 1 - self._rate * self._settings.weight_decay
                _adamw(weights, gradients, state[0], state[1], self._rate, decay, number)
                return
            if state:
                torch._foreach_mul_(state[0], self._settings.momentum)
                torch._foreach_add_(state[0], gradients)
                gradients = state[0]
            torch._foreach_sub_(weights, gradients, alpha=self._rate)


def _adamw(
    weights: list[Tensor],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    rate: float,
    decay: float,
    number: int,
) -> None:
    torch._foreach_mul_(weights, decay)
    torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
    torch._foreach_mul_(second, BETAS[1])
    torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
    scales = torch._foreach_sqrt(second)
    torch._foreach_div_(scales, sqrt(1 - BETAS[1] ** number))
    torch._foreach_add_(scales, EPSILON)
    torch._foreach_addcdiv_(weights, first, scales, -rate / (1 - BETAS[0] ** number))


def _last_mean(task: Task, losses: list[float], sizes: list[int], settings: FederateSettings) -> float:
    """Return the mean loss over the epoch in which a client made its last step."""
    epoch = ceil(len(task.rows) / settings.batch_size)
    begin = (task.steps - 1) // epoch * epoch
    return sum(losses[begin:]) / sum(sizes[begin : task.steps])
