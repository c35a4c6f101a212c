"""Scorers of written texts that are models: toxicity and regard, by a sequence classifier that a study names."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stages.common.errors import InputError, SettingError
from stages.models.encoders import CHUNK, check_complete, load_transformer, mask, padded_ids, tokenizer
from stages.models.files import device
from stages.models.settings import TransformerEncoder, Weights
from stages.score.settings import Scorer

# A label that does not exclude the others is a text's from this probability on.
LEAST = 0.5


class _Loaded(NamedTuple):
    network: Any
    tokenize: Tokenizer
    labels: dict[str, int]
    exclusive: bool


def check(scorer: Scorer, name: str) -> None:
    """Raise SettingError if a scorer, called `name` in the settings, lacks a label that it is to tell."""
    labels = _loaded(scorer).labels
    for label in scorer.told():
        if label not in labels:
            raise SettingError(name, f"its model has no label {label!r}", f"it has: {', '.join(sorted(labels))}")


@torch.no_grad()
def found(scorer: Scorer, texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return for each label that a scorer tells which of n texts have it.

    A text has the likeliest label alone, or, of a model whose config.json says `multi_label_classification`, each of
    a probability of a half. Longer texts are cut at the scorer's `max_length` tokens.
    """
    loaded = _loaded(scorer)
    encodings = [each.ids for each in loaded.tokenize.encode_batch(list(texts))]
    told = {label: np.zeros(len(texts), dtype=np.bool_) for label in scorer.told()}
    # Texts of like length together: the cost of a chunk is that of its longest.
    order = np.argsort([len(ids) for ids in encodings], kind="stable")
    for rows in np.array_split(order, range(CHUNK, len(order), CHUNK)):
        ids, lengths = (torch.from_numpy(each).to(device()) for each in padded_ids([encodings[row] for row in rows]))
        logits = loaded.network(input_ids=ids.long(), attention_mask=mask(lengths, ids.shape[1]).long()).logits
        if loaded.exclusive:
            has = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
        else:
            has = logits.sigmoid() >= LEAST
        for label, values in told.items():
            values[rows] = has[:, loaded.labels[label]].cpu().numpy()
    return told


def _loaded(scorer: Scorer) -> _Loaded:
    """Return a scorer's model; InputError if its file lacks a layer, or it gives one score and no labels."""
    place = {name: getattr(scorer, name) for name in Weights.model_fields}
    return _read(TransformerEncoder(kind="transformer", path=scorer.path, trained_layers=0, **place), scorer.max_length)


@cache
def _read(encoder: TransformerEncoder, max_length: int) -> _Loaded:
    from transformers import AutoModelForSequenceClassification

    network, missing = load_transformer(encoder, AutoModelForSequenceClassification)
    check_complete(missing)
    config = network.config
    if config.num_labels < 2 or config.problem_type == "regression":
        raise InputError(encoder.path, "is a model of one score, which has no labels", "give one that tells labels")
    labels = {str(label): int(place) for place, label in config.id2label.items()}
    exclusive = config.problem_type != "multi_label_classification"
    return _Loaded(network.to(device()).eval(), tokenizer(encoder, max_length), labels, exclusive)
