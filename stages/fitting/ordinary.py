"""Ordinary training: Adam on shuffled batches."""

from collections.abc import Callable

import torch
from torch import Tensor

from stages.common.streams import torch_seed
from stages.models.adam import Adam
from stages.models.text_model import Objective, TextModel


def fit(
    model: TextModel,
    inputs: tuple[Tensor, ...],
    objective: Objective,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    seed: int,
    stop: Callable[[], bool] | None = None,
) -> list[float]:
    """Minimise the mean of `objective` with Adam; return the mean loss of each epoch.

    Args:
        model: Trained in place.
        inputs: What `model.inputs` returned.
        objective: (what the model says, rows) -> (rows,) losses.
        batch_size: Examples of a step; the last batch of an epoch may be smaller.
        epochs: Passes over the examples.
        learning_rate: Adam's.
        seed: Order of the examples and dropout.
        stop: Asked after every epoch whether it was the last.
    """
    torch.manual_seed(torch_seed(seed, "order and dropout"))
    optimiser = Adam((parameter for parameter in model.parameters() if parameter.requires_grad), learning_rate)
    history, n = [], len(inputs[0])
    model.train()
    for _ in range(epochs):
        order = torch.randperm(n).to(model.device)
        total = 0.0
        for rows in order.split(batch_size):
            loss = objective(model(*(tensor[rows] for tensor in inputs)), rows)
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
            total += float(loss.detach().sum())
        history.append(total / n)
        if stop is not None and stop():
            break
    model.eval()
    return history
