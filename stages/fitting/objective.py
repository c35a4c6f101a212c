"""The loss of a model, one value per example: of label and tag prediction, or of the next token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stages.models.classifier import Scores
from stages.models.crf import log_likelihoods
from stages.models.encoders import IGNORED_TAG
from stages.models.examples import Examples
from stages.models.language import LanguageModel, TextModel

# (what the model says of some rows, those rows) -> their losses
Objective = Callable[[Any, Tensor], Tensor]


def objective_of(model: TextModel, examples: Examples) -> Objective:
    """Return the objective that `model` is trained with on `examples`."""
    if isinstance(model, LanguageModel):
        return tokens_objective(examples, model.device)
    return examples_objective(examples, model.device)


def tokens_objective(examples: Examples, device: torch.device) -> Objective:
    """Return the objective of a language model: of each text the mean loss of its own tokens."""
    # By the example's own length, as below; the mark of the beginning is not predicted.
    counts = (examples.text.lengths - 1).clamp(min=1).to(device)
    return lambda by_token, rows: by_token.sum(dim=1) / counts[rows]


def losses(scores: Scores, labels: Tensor, tags: Tensor | None) -> Tensor:
    """Return (n,) losses: label cross-entropy plus, with tags, the mean cross-entropy of the text's own words.

    Of tags in a chain it is the negative log-likelihood of the sequence, by the number of its words as well.

    Args:
        scores: Logits of n texts.
        labels: (n,) label indices.
        tags: (n, length) tag indices, IGNORED_TAG where there is none; `length` may exceed that of the scores.
    """
    loss = nn.functional.cross_entropy(scores.labels, labels, reduction="none")
    if scores.tags is None or tags is None:
        return loss
    tags = tags[:, : scores.tags.shape[1]]
    if scores.chain is None:
        of_tags = nn.functional.cross_entropy(
            scores.tags.transpose(1, 2), tags, reduction="none", ignore_index=IGNORED_TAG
        ).sum(dim=1)
    else:
        of_tags = -log_likelihoods(scores.tags, scores.chain, tags)
    # By the example's own length: dividing by the batch's would let one example move another's loss.
    count = (tags != IGNORED_TAG).sum(dim=1).clamp(min=1)
    return loss + of_tags / count


def examples_objective(examples: Examples, device: torch.device) -> Objective:
    """Return the objective that reads labels and tags of `examples` by row."""
    labels = examples.labels.to(device)
    tags = examples.tags.to(device) if examples.tags is not None else None
    return lambda scores, rows: losses(scores, labels[rows], tags[rows] if tags is not None else None)
