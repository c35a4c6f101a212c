"""The search: vectors of tokens whose gradient is that which was seen, by Adam, and the tokens nearest to them.

By distance it is DLG, TAG, or LAMP without what LAMP has of language: its language model and its edits of tokens are
left out, so that no result here is LAMP's. Lengths, labels, tags and the marks around a text are known.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.invert.client import Known, encoder, others
from stages.invert.distances import DISTANCES
from stages.invert.settings import InvertSettings
from stages.models.adam import Adam
from stages.models.classifier import TextClassifier

# Steps between two looks at the nearest tokens, and between two changes of the learning rate.
LOOK, CHANGE = 25, 50


@dataclass(frozen=True)
class Problem:
    """What the server tries to explain.

    Attributes:
        model: In eval mode; it is not changed.
        known: What is known of the texts.
        seen: Gradients of the trained parameters but the table of token vectors.
        candidates: (tokens,) ids that a text may have.
        settings: Distance, and the clipping of the update.
        size: The mean norm of a token's vector.
    """

    model: TextClassifier
    known: Known
    seen: list[Tensor]
    candidates: Tensor
    settings: InvertSettings
    _fixed: Tensor = field(init=False)
    size: float = field(init=False)
    _directions: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fixed", self.table[self.known.ids])
        object.__setattr__(self, "size", float(self.table.norm(dim=1).mean()))
        object.__setattr__(self, "_directions", normalize(self.table[self.candidates], dim=1))

    @property
    def table(self) -> Tensor:
        """The (tokens, width) vectors of all tokens."""
        return encoder(self.model).table.detach()

    def objective(self, vectors: Tensor, differentiable: bool = False) -> Tensor:
        """Return the objective of vectors (n, length, width), which count where tokens are unknown.

        With cosines it has a term for the mean norm of the vectors, which they say nothing of.
        """
        unknown = self.known.unknown[..., None]
        full = vectors.where(unknown, self._fixed)
        if not differentiable:
            full = full.detach().requires_grad_()
        name = self.settings.objective
        loss = DISTANCES[name](self.gradients(full, differentiable), self.seen)
        if name == "cosine":
            loss = loss + (full[self.known.unknown].norm(dim=1).mean() - self.size).square()
        return loss if differentiable else loss.detach()

    def gradients(self, vectors: Tensor, differentiable: bool = False) -> list[Tensor]:
        """Return what a client with these vectors (n, length, width) would send, without noise."""
        losses = self.known.losses(self.model.score_embeddings(vectors, self.known.lengths))
        rest, norm = others(self.model), self.settings.clipping_norm
        if norm is None:
            mean = torch.autograd.grad(losses.mean(), rest, create_graph=differentiable, materialize_grads=True)
            return list(mean)
        clipped = []
        for loss in losses:
            found = torch.autograd.grad(
                loss, [*rest, vectors], retain_graph=True, create_graph=differentiable, materialize_grads=True
            )
            # Of the table's part the norm is that of the gradients by position, but for tokens that occur twice.
            length = torch.stack([each.square().sum() for each in found]).sum().sqrt()
            clipped.append([each * (norm / length).clamp(max=1) for each in found[:-1]])
        return [torch.stack(of_texts).mean(dim=0) for of_texts in zip(*clipped, strict=True)]

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return (n, length) ids: of the candidates the nearest by cosine, and what is known."""
        cosines = normalize(vectors.detach(), dim=2) @ self._directions.T
        return self.candidates[cosines.argmax(dim=2)].where(self.known.unknown, self.known.ids)


def search(problem: Problem, draws: np.random.Generator) -> tuple[Tensor, float]:
    """Return (n, length) ids, of all that were nearest when looked at those with the lowest objective, and that.

    Args:
        problem: What to explain.
        draws: Of the random starts.
    """
    settings, table = problem.settings, problem.table
    shape = (settings.starts, *problem.known.ids.shape, table.shape[1])
    starts = torch.from_numpy(draws.normal(scale=problem.size / np.sqrt(table.shape[1]), size=shape)).to(table)
    first = torch.stack([problem.objective(start) for start in starts]).argmin()
    vectors = starts[first].clone().requires_grad_()
    optimiser = Adam([vectors], settings.learning_rate)
    best: tuple[Tensor, float] | None = None
    for step in range(settings.steps + 1):
        if step % LOOK == 0 or step == settings.steps:
            ids = problem.nearest(vectors)
            objective = float(problem.objective(table[ids]))
            if best is None or objective < best[1]:
                best = ids, objective
        if step < settings.steps:
            optimiser.learning_rate = settings.learning_rate * settings.decay ** (step // CHANGE)
            (vectors.grad,) = torch.autograd.grad(problem.objective(vectors, differentiable=True), vectors)
            optimiser.step()
    assert best is not None
    return best
