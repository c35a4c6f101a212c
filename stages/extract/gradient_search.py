"""The attack: search for the code whose loss is lowest by gradients, through mixtures of candidates.

Text completion as discrete optimisation made differentiable (Parikh et al. 2022): each unknown word is a softmax over
its candidates, the model reads the mixture of their representations, and Adam moves the logits while the model stays
as it is. Steps, learning rate and the rule to stop are those of a re-implementation by others; several starts are ours.
"""

import numpy as np
import torch
from torch import Tensor

from stages.common.streams import generator
from stages.extract.codes import Answer
from stages.extract.settings import GradientSearchSettings
from stages.extract.target import Target
from stages.models.adam import Adam

# Steps without a change of any answer after which the search ends.
PATIENCE = 100


def attack(target: Target, settings: GradientSearchSettings, seed: int) -> Answer:
    """Return the answer of one trial; `seed` is of the starts and of Gumbel noise."""
    shape = (settings.starts, target.unknown, target.alphabet)
    # Glorot and Bengio 2010, as in the re-implementation.
    limit = np.sqrt(6 / (target.unknown + target.alphabet))
    starts = torch.from_numpy(generator(seed, "extraction starts").uniform(-limit, limit, shape)).float()
    return search(target, starts, settings, seed)


def search(target: Target, starts: Tensor, settings: GradientSearchSettings, seed: int) -> Answer:
    """Return the best answer from (starts, n, V), all optimised at once: each is a problem of its own."""
    logits = starts.to(target.context.device, copy=True).requires_grad_()
    optimiser = Adam([logits], settings.learning_rate)
    noise = generator(seed, "extraction noise") if settings.gumbel else None
    visited: dict[tuple[int, ...], float] = {}
    held, unchanged, step = None, 0, 0
    # On a GPU the fused recurrence has no gradient in eval mode.
    with torch.backends.cudnn.flags(enabled=False):
        while True:
            likeliest = logits.detach().argmax(dim=2)
            unchanged = unchanged + 1 if held is not None and torch.equal(likeliest, held) else 0
            held = likeliest
            _visit(target, likeliest, visited)
            if step == settings.steps or unchanged == PATIENCE:
                break
            noisy = logits if noise is None else logits + torch.from_numpy(noise.gumbel(size=logits.shape)).to(logits)
            loss = target.relaxed(torch.softmax(noisy / settings.temperature, dim=2)).sum()
            (logits.grad,) = torch.autograd.grad(loss, logits)
            optimiser.step()
            step += 1
    best = min(visited, key=lambda code: (visited[code], code))
    return Answer(best, visited[best], step, len(visited))


def _visit(target: Target, codes: Tensor, visited: dict[tuple[int, ...], float]) -> None:
    """Add the discrete losses of codes that were not visited before."""
    new = sorted({tuple(code) for code in codes.tolist()} - set(visited))
    if new:
        with torch.no_grad():
            found = target.discrete(torch.tensor(new, device=codes.device))
        visited.update(zip(new, found.tolist(), strict=True))
