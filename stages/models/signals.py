"""What an attacker sees of each example in a classifier: how probable the model holds what is true of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.classifier import TextClassifier
from stages.models.crf import ChainScores, log_marginals
from stages.models.encoders import IGNORED_TAG
from stages.models.evaluate import begins_word, scored
from stages.models.examples import Examples

Values = NDArray[np.float64]
Part = Literal["label", "tags"]
PARTS: tuple[Part, ...] = ("label", "tags")


@dataclass(frozen=True)
class Signals:
    """Signals of n examples, by part: `label` and, for a model with tags, `tags`.

    Attributes:
        correct: (n,) whether the most probable label is the true one.
        log_probability: Part -> (n,) log p of what is true; of tags, the mean over the example's own words, so that a
            long text is no likelier a member for its length. In a chain p is the tag's marginal probability given the
            text: the same scale as that of tags which are scored independently, and one value per word.
        logit: Part -> (n,) log p - log(1 - p) of the same, which is nearer to a Gaussian over models (Carlini et al.
            2022, "Membership Inference Attacks From First Principles", section IV.C).
    """

    correct: NDArray[np.bool_]
    log_probability: dict[Part, Values]
    logit: dict[Part, Values]


def signals(model: TextClassifier, examples: Examples) -> Signals:
    """Return the signals of examples in eval mode, in float64."""
    log_probability: dict[Part, Values] = {}
    logit: dict[Part, Values] = {}
    correct = np.empty(len(examples), dtype=bool)
    for rows, scores in scored(model, examples):
        parts: dict[Part, tuple[Tensor, Tensor]] = {"label": _of_truth(scores.labels, examples.labels[rows])}
        if scores.tags is not None and examples.tags is not None:
            by_token = scores.tags
            if scores.chain is not None:
                in_full = ChainScores(*(part.double() for part in scores.chain))
                by_token = log_marginals(by_token.double(), in_full, begins_word(examples.text.words[rows], by_token))
            parts["tags"] = _of_words(by_token, examples.tags[rows])
        for part, (probability, scaled) in parts.items():
            for found, values in ((log_probability, probability), (logit, scaled)):
                found.setdefault(part, np.empty(len(examples)))[rows.numpy()] = values.cpu().numpy()
        correct[rows.numpy()] = (scores.labels.argmax(dim=1).cpu() == examples.labels[rows]).numpy()
    return Signals(correct, log_probability, logit)


def _of_truth(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and log p - log(1 - p) of the true class: (n, classes) and (n,) to two of (n,)."""
    log_probabilities = torch.log_softmax(scores.double(), dim=1)
    place = truth.to(scores.device)[:, None]
    true = log_probabilities.gather(1, place)[:, 0]
    # Summed over the others: 1 - p would be 0 where the model is sure.
    others = log_probabilities.scatter(1, place, -torch.inf).logsumexp(dim=1)
    return true, true - others


def _of_words(scores: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of `_of_truth` over the words of each text: (n, length, tags) and (n, length)."""
    tags = tags[:, : scores.shape[1]].to(scores.device)
    known = tags != IGNORED_TAG
    by_token = _of_truth(scores.flatten(0, 1), tags.clamp(min=0).flatten())
    count = known.sum(dim=1).clamp(min=1)
    first, second = ((values.view(tags.shape) * known).sum(dim=1) / count for values in by_token)
    return first, second
