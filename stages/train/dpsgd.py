"""DP-SGD: Poisson batches, exact clipping of each example, Gaussian noise (Abadi et al. 2016).

The clipping norm may follow a quantile of the gradients' norms (stages/privacy/quantile.py).

And eDP-SGD (Dupuy et al. 2022), as far as it is known: examples are clipped in groups, the noise decays from pass to
pass. Its body could not be read, so what is here is a reconstruction with a sampler that can be accounted for: groups
are dealt once, without looking at the data, and each is in a batch independently.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.streams import generator, torch_seed
from stages.models.adam import Adam
from stages.models.examples import Examples
from stages.models.text_model import Objective, TextModel
from stages.privacy.accounting import Mechanism
from stages.privacy.clipping import Clipping
from stages.privacy.noise import Noise
from stages.privacy.quantile import Quantile, shifted_count

# Examples in one pass; a larger batch is summed in pieces, with the same result and less memory.
PHYSICAL_BATCH = 128


def train(
    model: TextModel,
    examples: Examples,
    mechanism: Mechanism,
    learning_rate: float,
    clipping: Clipping,
    clipping_norm: float,
    seed: int,
    quantile: Quantile | None = None,
    cell: tuple[int, ...] = (),
    public_count: int | None = None,
) -> list[float]:
    """Train in place with Adam on privatised gradients; return the mean loss of about each epoch.

    Args:
        model: Trained in place.
        examples: The private examples, n of them. Of n that are no whole groups, the last dealt are left out.
        mechanism: Sampler, schedule of the noise and size of groups, as they are accounted for.
        learning_rate: Adam's.
        clipping: Of the model, by the mechanism's groups. With `quantile` its clipping norm is the last one afterwards.
        clipping_norm: What noise multipliers are multiplied by: that of `clipping`, unless it clips nothing.
        seed: Of groups, batches, dropout and noise. A seeded generator is no secret: for experiments only.
        quantile: How the clipping norm is adapted; it stays if None.
        cell: Keeps batches and noise from those of other cells with this seed (stages/common/streams.py).
        public_count: How many examples there would be on average, where their number is a secret too, as of canaries.

    Raises:
        SettingError: The quantile takes more than the mechanism's noise allows.
        ValueError: Groups are clipped that are not those accounted for.
    """
    if clipping.group != mechanism.group:
        raise ValueError(f"groups of {clipping.group} are clipped, groups of {mechanism.group} accounted for")
    torch.manual_seed(torch_seed(seed, "dropout"))
    batches = generator(seed, "poisson batches", *cell)
    noise = Noise(torch_seed(seed, "noise", *cell), model.device)
    counts = generator(seed, "noise of the counts", *cell)
    optimiser = Adam(clipping.parameters, learning_rate)
    groups = _deal(len(examples), mechanism.group, seed)
    expected_groups = len(groups) if public_count is None else public_count // mechanism.group
    expected_batch_size = max(1, round(mechanism.probability * expected_groups))
    inputs, lengths = model.inputs(examples.text), examples.text.lengths.numpy()
    objective = model.objective(examples)
    step_losses = []
    model.train()
    for phase in mechanism.schedule:
        multiplier = (
            phase.noise_multiplier if quantile is None else quantile.gradient_multiplier(phase.noise_multiplier)
        )
        for _ in range(phase.steps):
            drawn = groups[batches.random(len(groups)) < mechanism.probability]
            # Texts of like length together, which changes no sum: the cost of a piece is that of its longest.
            rows = drawn[np.argsort(lengths[drawn].max(axis=1, initial=0), kind="stable")].flatten()
            optimiser.zero_grad()
            loss, norms = _sum_clipped(model, clipping, inputs, objective, torch.from_numpy(rows).to(model.device))
            step_losses.append(loss)
            # An empty batch still takes its noise: skipping it would tell that it was empty.
            noise.add(clipping.parameters, multiplier * clipping_norm, expected_batch_size)
            if quantile is not None:
                count = shifted_count(norms, clipping_norm)
                clipping_norm = quantile.next(clipping_norm, count, expected_batch_size, counts)
                clipping.clipping_norm = clipping_norm
            optimiser.step()
    model.eval()
    epoch = max(1, round(1 / mechanism.probability))
    pieces = [step_losses[start : start + epoch] for start in range(0, len(step_losses), epoch)]
    return [float(np.mean([loss for loss in piece if loss is not None] or [0.0])) for piece in pieces]


def _deal(count: int, group: int, seed: int) -> NDArray[np.int64]:
    """Return (groups, group) rows of examples; one by one, in their own order."""
    rows = np.arange(count)
    if group > 1:
        # Without looking at the data, or an example could decide who its neighbours are.
        rows = generator(seed, "groups").permutation(count)[: count - count % group]
    return rows.reshape(-1, group)


def _sum_clipped(
    model: TextModel, clipping: Clipping, inputs: tuple[Tensor, ...], objective: Objective, rows: Tensor
) -> tuple[float | None, Tensor]:
    """Add up the clipped gradients of a batch; return its mean loss, None for an empty one, and the norms."""
    if len(rows) == 0:
        return None, torch.empty(0)

    def losses_of(piece: Tensor) -> Tensor:
        return objective(model(*(tensor[piece] for tensor in inputs)), piece)

    total, norms = 0.0, []
    for piece in rows.split(max(1, min(PHYSICAL_BATCH, model.chunk) // clipping.group) * clipping.group):
        losses, found = clipping.add_clipped_sum(losses_of, piece)
        total += float(losses.sum())
        norms.append(found)
    return total / len(rows), torch.cat(norms)
