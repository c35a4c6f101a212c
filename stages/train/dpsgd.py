"""DP-SGD through Opacus: Poisson batches, exact per-example clipping, Gaussian noise (Abadi et al. 2016).

The reference implementation: clear and exact rather than fast.
"""

import warnings
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor

from stages.common.streams import generator, torch_seed
from stages.fitting.objective import Objective, examples_objective
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples

# Examples whose gradients are held at once; a larger batch is summed in pieces, with the same result.
# Opacus holds a recurrent layer's per-example gradients once per time step, so more is slower, not faster.
PHYSICAL_BATCH = 32


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
        model: Built with `private=True`.
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
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapped = GradSampleModule(model, loss_reduction="sum")
    optimiser = DPOptimizer(
        torch.optim.Adam(parameters, lr=learning_rate),
        noise_multiplier=noise_multiplier,
        max_grad_norm=clipping_norm,
        # The expected size, not the drawn one: the size of a Poisson batch depends on the data.
        expected_batch_size=max(1, round(sampling_probability * len(examples))),
        generator=noise,
    )
    inputs = model.inputs(examples.text)
    objective = examples_objective(examples, model.device)
    step_losses = []
    wrapped.train()
    # Of Opacus's own hooks, for every model whose inputs take no gradient; nothing is wrong then.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    for _ in range(steps):
        rows = np.flatnonzero(batches.random(len(examples)) < sampling_probability)
        step_losses.append(_step(wrapped, optimiser, inputs, objective, torch.from_numpy(rows).to(model.device)))
    wrapped.remove_hooks()
    model.eval()
    epoch = max(1, round(1 / sampling_probability))
    pieces = [step_losses[start : start + epoch] for start in range(0, steps, epoch)]
    return [float(np.mean([loss for loss in piece if loss is not None] or [0.0])) for piece in pieces]


def _step(
    model: Any, optimiser: DPOptimizer, inputs: tuple[Tensor, ...], objective: Objective, rows: Tensor
) -> float | None:
    optimiser.zero_grad()
    if len(rows) == 0:
        # An empty batch still takes its noise: skipping it would tell that it was empty.
        for parameter in optimiser.params:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        optimiser.step()
        return None
    total = 0.0
    pieces = rows.split(PHYSICAL_BATCH)
    for number, piece in enumerate(pieces):
        optimiser.signal_skip_step(do_skip=number < len(pieces) - 1)
        loss = objective(model(*(tensor[piece] for tensor in inputs)), piece)
        loss.sum().backward()
        total += float(loss.detach().sum())
        optimiser.step()
        optimiser.zero_grad()
    return total / len(rows)
