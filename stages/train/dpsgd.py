"""DP-SGD: Poisson batches, exact per-example clipping, Gaussian noise (Abadi et al. 2016)."""

import numpy as np
import torch
from torch import Tensor

from stages.common.streams import generator, torch_seed
from stages.fitting.objective import Objective, examples_objective
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples
from stages.privacy.clipping import ClippedGradients
from stages.privacy.noise import add_noise

# Examples in one pass; a larger batch is summed in pieces, with the same result and less memory.
PHYSICAL_BATCH = 128


def train(
    model: TextClassifier,
    examples: Examples,
    sampling_probability: float,
    steps: int,
    learning_rate: float,
    noise_multiplier: float,
    clipping_norm: float,
    seed: int,
) -> list[float]:
    """Train in place with Adam on privatised gradients; return the mean loss of about each epoch.

    Args:
        model: Trained in place.
        examples: The private examples, n of them.
        sampling_probability: Chance of each example to be in a step's batch.
        steps: Number of noisy steps.
        learning_rate: Adam's.
        noise_multiplier: Standard deviation of the noise on the summed gradient, in clipping norms.
        clipping_norm: Largest L2 norm of one example's gradient, over all trained parameters.
        seed: Of batches, dropout and noise. A seeded generator is no secret: for experiments only.
    """
    torch.manual_seed(torch_seed(seed, "dropout"))
    batches = generator(seed, "poisson batches")
    noise = torch.Generator(device=model.device).manual_seed(torch_seed(seed, "noise"))
    clipped = ClippedGradients(model, clipping_norm)
    optimiser = torch.optim.Adam(clipped.parameters, lr=learning_rate)
    expected_batch_size = max(1, round(sampling_probability * len(examples)))
    inputs = model.inputs(examples.text)
    objective = examples_objective(examples, model.device)
    step_losses = []
    model.train()
    for _ in range(steps):
        rows = np.flatnonzero(batches.random(len(examples)) < sampling_probability)
        optimiser.zero_grad()
        step_losses.append(_sum_clipped(model, clipped, inputs, objective, torch.from_numpy(rows).to(model.device)))
        # An empty batch still takes its noise: skipping it would tell that it was empty.
        add_noise(clipped.parameters, noise_multiplier * clipping_norm, expected_batch_size, noise)
        optimiser.step()
    model.eval()
    epoch = max(1, round(1 / sampling_probability))
    pieces = [step_losses[start : start + epoch] for start in range(0, steps, epoch)]
    return [float(np.mean([loss for loss in piece if loss is not None] or [0.0])) for piece in pieces]


def _sum_clipped(
    model: TextClassifier, clipped: ClippedGradients, inputs: tuple[Tensor, ...], objective: Objective, rows: Tensor
) -> float | None:
    """Add up the clipped gradients of a batch; return its mean loss, None for an empty one."""
    if len(rows) == 0:
        return None
    total = 0.0
    for piece in rows.split(PHYSICAL_BATCH):
        with clipped.recording(len(piece)):
            losses = objective(model(*(tensor[piece] for tensor in inputs)), piece)
        clipped.backward(losses)
        total += float(losses.detach().sum())
    return total / len(rows)
