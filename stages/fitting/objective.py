"""The loss of joint label and tag prediction, one value per example."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.models.classifier import Scores
from stages.models.crf import log_likelihoods
from stages.models.encoders import IGNORED_TAG
from stages.models.examples import Examples

# (scores of some rows, those rows) -> their losses
Objective = Callable[[Scores, Tensor], Tensor]


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
