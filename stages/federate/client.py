"""What a client does in a round: plain SGD on its own examples, starting from the server's weights."""

import torch
from torch import Tensor

from stages.federate.settings import FederateSettings
from stages.models.classifier import TextClassifier
from stages.models.text_model import Objective


def update(
    model: TextClassifier,
    inputs: tuple[Tensor, ...],
    rows: Tensor,
    objective: Objective,
    settings: FederateSettings,
    generator: torch.Generator,
) -> float:
    """Train `model` in place on the client's rows; return the mean loss of its last epoch.

    Args:
        model: Holds the server's weights.
        inputs: What `model.inputs` returned for all examples of the simulation.
        rows: (n,) rows the client holds, n >= 1.
        objective: (scores, rows) -> (rows,) losses.
        settings: Local epochs, batch size (the last of an epoch may be smaller) and learning rate.
        generator: Order of the rows, on the CPU.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = 0.0
    for _ in range(settings.local_epochs):
        order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        total = 0.0
        for batch in order.split(settings.batch_size):
            loss = objective(model(*(tensor[batch] for tensor in inputs)), batch)
            gradients = torch.autograd.grad(loss.mean(), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.sub_(gradient, alpha=settings.learning_rate)
            total += float(loss.detach().sum())
    return total / len(rows)
