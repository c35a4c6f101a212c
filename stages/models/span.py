"""Extractive question answering: where in a context the answer to a question begins and ends."""

from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from stages.common.measurements import Measurement
from stages.common.statistics import mean
from stages.models import reading
from stages.models.encoders import EncodedText, Transformer, build_encoder
from stages.models.evaluate import question_scores, scored
from stages.models.examples import Examples, Vocabulary, unlabelled
from stages.models.settings import SpanSettings
from stages.models.text_model import Objective, TextModel


class SpanScores(NamedTuple):
    """Logits (n, length) of each token as an answer's first and as its last; -inf for tokens that are no context."""

    first: Tensor
    last: Tensor


class SpanModel(TextModel):
    """Score the tokens of a context as ends of the answer; question and context are read as one pair.

    Source: Devlin et al. 2019, "BERT", section 4.2.

    Args:
        settings: The model's block of params.yaml.
    """

    settings: SpanSettings

    def __init__(self, settings: SpanSettings) -> None:
        super().__init__(settings)
        encoder = build_encoder(settings.encoder, settings.max_length, "models: max_length")
        assert isinstance(encoder, Transformer)
        self.encoder = encoder
        self.dropout = nn.Dropout(settings.dropout)
        self.ends = nn.Linear(encoder.dimension, 2)

    @staticmethod
    def read(table: pd.DataFrame, settings: SpanSettings, known: Vocabulary) -> Examples:
        """Encode questions with their contexts; InputError if the table has none, or no room is left for a context."""
        del known
        text, asked = reading.read(table, settings)
        return unlabelled(table, text, asked)

    def inputs(self, text: EncodedText) -> tuple[Tensor, ...]:
        """Return token ids, lengths and where contexts begin and end."""
        assert text.part is not None
        return *super().inputs(text), text.part.to(self.device)

    def forward(self, ids: Tensor, lengths: Tensor, context: Tensor) -> SpanScores:
        """Score a batch of what `inputs` returned."""
        width = int(lengths.max())
        scores = self.ends(self.dropout(self.encoder(ids[:, :width], lengths, context[:, 0])))
        places = torch.arange(width, device=ids.device)
        within = (places >= context[:, :1]) & (places < context[:, 1:])
        first, last = scores.masked_fill(~within[..., None], -torch.inf).unbind(dim=2)
        return SpanScores(first, last)

    def objective(self, examples: Examples) -> Objective:
        """Return the mean cross-entropy of an answer's first and last token; see `losses`."""
        assert examples.reading is not None
        # No lambda: processes that train the clients of a federation are sent it.
        return partial(_losses_of_rows, examples.reading.spans.to(self.device))

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return exact match and F1 of the words of answers; one that was cut off is missed."""
        del known
        asked = examples.reading
        assert asked is not None
        spans = torch.empty((len(examples), 2), dtype=torch.int64)
        for rows, scores in scored(self, examples):
            spans[rows] = best_spans(scores, self.settings.max_answer).cpu()
        exact, f1 = question_scores(asked.texts(spans), asked.answers).T
        return {f"{split}/exact_match": mean(exact, seed), f"{split}/answer_f1": mean(f1, seed)}


def losses(scores: SpanScores, spans: Tensor) -> Tensor:
    """Return (n,) means of the cross-entropies of first and last token; 0 where the answer was cut off.

    Args:
        scores: Logits of n texts.
        spans: (n, 2) first and last token of each answer, below zero if it was cut off.
    """
    known = spans[:, 0] >= 0
    # Such an answer teaches nothing; any token of the context that has a score stands in for it.
    stand_in = scores.first.argmax(dim=1)[:, None]
    spans = torch.where(known[:, None], spans, stand_in)
    of_ends = [
        nn.functional.cross_entropy(logits, place, reduction="none")
        for logits, place in zip(scores, spans.T, strict=True)
    ]
    return (of_ends[0] + of_ends[1]) / 2 * known


def best_spans(scores: SpanScores, longest: int) -> Tensor:
    """Return (n, 2) first and last token of the span with the greatest sum of scores, of at most `longest` tokens."""
    width = scores.first.shape[1]
    sums = torch.full((len(scores.first), width, min(longest, width)), -torch.inf, device=scores.first.device)
    for more in range(sums.shape[2]):
        sums[:, : width - more, more] = scores.first[:, : width - more] + scores.last[:, more:]
    best = sums.flatten(1).argmax(dim=1)
    first = best // sums.shape[2]
    return torch.stack([first, first + best % sums.shape[2]], dim=1)


def _losses_of_rows(spans: Tensor, scores: SpanScores, rows: Tensor) -> Tensor:
    return losses(scores, spans[rows])
