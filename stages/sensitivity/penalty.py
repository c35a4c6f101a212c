"""P as a part of the loss, so that training holds it down. Not in the paper's abstract: a natural extension of it.

P of the predicted class is the slope of its probability along one direction: v_i times the unit gradient of each token.
How the weights of the model change that slope is the same as if the direction stayed where it is, since a gradient is
the direction of the steepest slope of its length. So no gradient of a gradient is needed, which LSTMs here and on GPUs
do not have: the slope is taken as a central difference, and that is what is trained.
"""

import numpy as np
import torch
from torch import Tensor

from stages.models.classifier import TextClassifier
from stages.models.encoders import EncodedText, mask
from stages.models.text_model import Objective
from stages.sensitivity.gradients import Weights, evaluating

# Of the difference, against the mean norm of the vectors of a text's tokens.
STEP = 1e-2


def penalised(
    model: TextClassifier, objective: Objective, text: EncodedText, weights: Weights, strength: float
) -> Objective:
    """Return an objective plus `strength` times P of each text.

    Args:
        model: What is trained; its dropout is off in what is added.
        objective: Of the same rows.
        text: (n,) what it is trained on.
        weights: v, (n, length).
        strength: At 0 nothing is added.
    """
    if strength == 0:
        return objective
    ids, lengths = text.ids.to(model.device), text.lengths.to(model.device)
    v = torch.from_numpy(weights.astype(np.float32)).to(model.device)

    def total(scores: object, rows: Tensor) -> Tensor:
        width = int(lengths[rows].max())
        return objective(scores, rows) + strength * slopes(model, ids[rows, :width], lengths[rows], v[rows, :width])

    return total


def slopes(model: TextClassifier, ids: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Return (n,) P of the predicted class of texts, through which its gradient by the model's weights flows.

    Args:
        model: In either mode, in which it is left.
        ids: (n, length) tokens.
        lengths: (n,) tokens of each text.
        weights: v, (n, length).
    """
    with evaluating(model), torch.enable_grad():
        vectors = model.embed(ids).detach().requires_grad_()
        probabilities = torch.softmax(model.score_embeddings(vectors, lengths).labels, dim=1)
        predicted = probabilities.argmax(dim=1, keepdim=True)
        [gradient] = torch.autograd.grad(probabilities.gather(1, predicted).sum(), vectors)
        norms = torch.linalg.vector_norm(gradient, dim=2, keepdim=True)
        direction = weights[..., None] * gradient / norms.clamp(min=torch.finfo(norms.dtype).tiny)
        vectors = vectors.detach()
        of_tokens = torch.linalg.vector_norm(vectors, dim=2) * mask(lengths, ids.shape[1])
        # Of each text by itself: what else is in the batch does not change it.
        step = STEP * of_tokens.sum(dim=1) / lengths
        above, below = (
            torch.softmax(model.score_embeddings(vectors + by[:, None, None] * direction, lengths).labels, dim=1)
            for by in (step, -step)
        )
        found: Tensor = (above - below).gather(1, predicted)[:, 0] / (2 * step)
    return found
