"""The text classifier: a pretrained encoder, a head, label scores and, for tagged data, tag scores and their chain."""

from functools import partial
from typing import NamedTuple, Self

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stages.common.measurements import Measurement
from stages.common.statistics import macro_f1, proportion, span_f1
from stages.models.characters import Characters
from stages.models.crf import Chain, ChainScores, log_likelihoods
from stages.models.encoders import (
    IGNORED_TAG,
    EncodedText,
    StaticTable,
    build_encoder,
    mean_state,
    mean_states,
    word_vectors,
)
from stages.models.evaluate import predict
from stages.models.examples import Examples, Vocabulary, labelled
from stages.models.recurrent import LSTM, packed, padded
from stages.models.settings import ModelSettings, WordsEncoder
from stages.models.text_model import Objective, TextModel


class Scores(NamedTuple):
    """Logits: labels (n, labels) and, for a model with tags, tags (n, length, tags), which a chain may join."""

    labels: Tensor
    tags: Tensor | None
    chain: ChainScores | None = None


class TextClassifier(TextModel):
    """Classify a text and, if `tags` > 0, each of its tokens.

    Args:
        settings: The model's block of params.yaml.
        labels: Number of labels.
        tags: Number of tags, 0 for data without tags.
    """

    def __init__(self, settings: ModelSettings, labels: int, tags: int = 0) -> None:
        super().__init__(settings)
        self.encoder = build_encoder(settings.encoder, settings.max_length, "models: max_length")
        width = self.encoder.dimension
        self.characters: Characters | None = None
        if settings.characters and isinstance(settings.encoder, WordsEncoder):
            words = word_vectors(settings.encoder).words
            self.characters = Characters(words, settings.characters, settings.dropout)
            width += settings.characters.filters
        self.recurrent: nn.Module | None = None
        if settings.head == "bilstm":
            self.recurrent = LSTM(width, settings.hidden, settings.layers, batch_first=True, bidirectional=True)
            width = 2 * settings.hidden
        # With a frozen table and no recurrence, a text is one vector that never changes.
        frozen = isinstance(self.encoder, StaticTable) and self.characters is None
        self.pooled_inputs = frozen and self.recurrent is None and not tags
        self.dropout = nn.Dropout(settings.dropout)
        self.hidden: nn.Module | None = None
        if settings.head == "mean" and settings.hidden:
            self.hidden = nn.Sequential(nn.Linear(width, settings.hidden), nn.ReLU())
        self.labels = nn.Linear(settings.hidden if self.hidden else width, labels)
        self.tags = nn.Linear(width, tags) if tags else None
        self.chain = Chain(tags) if tags and settings.tagger == "crf" else None

    @staticmethod
    def read(table: pd.DataFrame, settings: ModelSettings, known: Vocabulary) -> Examples:
        """Encode texts, labels and tags; InputError for a label that training never saw."""
        return labelled(table, settings, known)

    @classmethod
    def build(cls, settings: ModelSettings, labels: int, tags: int) -> Self:
        """Return a new model for data with so many labels and tags."""
        return cls(settings, labels, tags)

    def inputs(self, text: EncodedText) -> tuple[Tensor, ...]:
        """Return token ids and lengths, or the pooled vectors of texts if they never change."""
        if not self.pooled_inputs:
            return super().inputs(text)
        return (mean_states(self.encoder, text, self.device),)

    def forward(self, *inputs: Tensor) -> Scores:
        """Score a batch of what `inputs` returned."""
        if self.pooled_inputs:
            return Scores(self._label_scores(inputs[0]), None)
        ids, lengths = inputs
        return self.score_embeddings(self.embed(ids[:, : int(lengths.max())]), lengths)

    def embed(self, ids: Tensor) -> Tensor:
        """Return (n, length, width) vectors of tokens (n, length), before any sees another.

        They are the encoder's and, if asked for, features of spelling.
        """
        vectors = self.encoder.embed(ids)
        return vectors if self.characters is None else torch.cat([vectors, self.characters(ids)], dim=2)

    def score_embeddings(self, vectors: Tensor, lengths: Tensor) -> Scores:
        """Score texts by vectors of their tokens, which need be those of no token.

        Args:
            vectors: (n, length, width), as `embed` returns them.
            lengths: (n,) tokens of each text.
        """
        return self.score(self.encoder.read(vectors, lengths), lengths)

    def score(self, states: Tensor, lengths: Tensor) -> Scores:
        """Score texts by the encoder's states (n, length, width), before dropout."""
        if self.recurrent is not None:
            # Packed, so that the backward direction starts at each text's own end and padding changes nothing.
            outputs, _ = self.recurrent(self._dropped(packed(states, lengths)))
            states = padded(self._dropped(outputs), lengths, states.shape[1])
        else:
            states = self.dropout(states)
        tags = self.tags(states) if self.tags is not None else None
        chain = self.chain() if self.chain is not None else None
        return Scores(self._label_scores(mean_state(states, lengths)), tags, chain)

    def objective(self, examples: Examples) -> Objective:
        """Return the objective that reads labels and tags of `examples` by row; see `losses`."""
        labels = examples.labels.to(self.device)
        tags = examples.tags.to(self.device) if examples.tags is not None else None
        # No lambda: processes that train the clients of a federation are sent it.
        return partial(_losses_of_rows, labels, tags)

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return accuracy, macro-F1 and, with tags, slot F1."""
        outside = known.tags.index("O") if "O" in known.tags else 0
        predictions = predict(self, examples, outside)
        truth = examples.labels.numpy()
        measured = {
            f"{split}/accuracy": proportion(int((predictions.labels == truth).sum()), len(truth)),
            f"{split}/macro_f1": macro_f1(truth, predictions.labels, len(known.labels), seed),
        }
        if known.tags:
            found = [[known.tags[tag] for tag in row] for row in predictions.tags]
            measured[f"{split}/slot_f1"] = span_f1(examples.words, found, seed)
        return measured

    def _dropped(self, texts: PackedSequence) -> PackedSequence:
        return texts._replace(data=self.dropout(texts.data))

    def _label_scores(self, pooled: Tensor) -> Tensor:
        if self.hidden is not None:
            pooled = self.dropout(self.hidden(pooled))
        scores: Tensor = self.labels(pooled)
        return scores


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


def _losses_of_rows(labels: Tensor, tags: Tensor | None, scores: Scores, rows: Tensor) -> Tensor:
    return losses(scores, labels[rows], tags[rows] if tags is not None else None)
