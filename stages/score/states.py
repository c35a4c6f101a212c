"""What models make of words and texts: vectors of words, of words in their contexts, and of whole texts."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import Tensor

from stages.models.encoders import CHUNK, padded_ids
from stages.models.masked import MaskedLanguageModel
from stages.score.tokens import AnyLanguageModel, check_length, unknown_tokens, whole_tokenizer

Vectors = NDArray[np.float32]
Pooling = Literal["mean", "first", "last"]


def word_vectors(model: AnyLanguageModel, words: Sequence[str]) -> tuple[dict[str, Vectors], dict[str, int]]:
    """Return the vectors of words in the table of a model's tokens, and of the others how many tokens each has.

    A word has a vector if it is one token, behind a space or at the beginning of a text.

    Args:
        model: Any.
        words: Those that are looked up.
    """
    tokenize = whole_tokenizer(model)
    if isinstance(model, MaskedLanguageModel):
        table: Tensor = model.encoder.table
    else:
        table = model.network.model.embed_tokens.weight
    unknown = unknown_tokens(tokenize)
    found, pieces = {}, {}
    for word in words:
        ids = [tokenize.encode(text, add_special_tokens=False).ids for text in (f" {word}", word)]
        if one := [each[0] for each in ids if len(each) == 1 and each[0] not in unknown]:
            found[word] = table[one[0]].detach().cpu().numpy()
        else:
            pieces[word] = min(map(len, ids))
    return found, pieces


def text_vectors(model: AnyLanguageModel, texts: Sequence[str], pooling: Pooling) -> Vectors:
    """Return (n, dimension) vectors of texts from the last states of a model.

    Args:
        model: In eval mode.
        texts: n texts.
        pooling: The mean of the states of a text's own tokens, or the state of its first or of its last one, of which
            the marks of its ends may be one.

    Raises:
        InputError: The model reads fewer tokens than a text has.
    """
    encodings = whole_tokenizer(model).encode_batch(list(texts))
    check_length(model, max(len(each.ids) for each in encodings))
    places = {
        "mean": [[at for at, mark in enumerate(each.special_tokens_mask) if not mark] for each in encodings],
        "first": [[0]] * len(encodings),
        "last": [[len(each.ids) - 1] for each in encodings],
    }
    return _means(model, encodings, places[pooling])


def vectors_in_contexts(model: AnyLanguageModel, word: str, texts: Sequence[str]) -> Vectors:
    """Return (n, dimension) vectors of a word where it first stands in texts: means of its tokens' last states.

    Args:
        model: In eval mode.
        word: The word; case does not count.
        texts: Those in which it stands behind what the model reads, or nowhere, are left out.
    """
    tokenize = whole_tokenizer(model)
    tokenize.enable_truncation(model.settings.max_length)
    encodings, places = [], []
    for text, encoding in zip(texts, tokenize.encode_batch(list(texts)), strict=True):
        if (standing := place_of(word, text)) is not None:
            begin, end = standing
            own = [at for at, (first, last) in enumerate(encoding.offsets) if max(first, begin) < min(last, end)]
            if own and encoding.offsets[own[-1]][1] >= end:
                encodings.append(encoding)
                places.append(own)
    return _means(model, encodings, places)


def place_of(word: str, text: str) -> tuple[int, int] | None:
    """Return where a word begins and ends in a text, whatever its case; None if it is no whole word of it."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    return None if found is None else found.span()


@torch.no_grad()
def _means(model: AnyLanguageModel, encodings: Sequence[Encoding], places: Sequence[list[int]]) -> Vectors:
    """Return (n, dimension) means of the last states of texts at some places of each."""
    vectors: list[Vectors] = [np.empty(0, dtype=np.float32)] * len(encodings)
    for rows, states in _states(model, encodings):
        for own, row in zip(states, rows, strict=True):
            vectors[row] = own[places[row]].mean(dim=0).cpu().numpy()
    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def _states(model: AnyLanguageModel, encodings: Sequence[Encoding]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield rows of texts and their last states (rows, length, dimension); those of like length together."""
    order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        ids, lengths = (
            torch.from_numpy(each).to(model.device) for each in padded_ids([encodings[row].ids for row in rows])
        )
        if isinstance(model, MaskedLanguageModel):
            yield rows, model.encoder(ids, lengths)
        else:
            # No token looks at those behind it, so padding needs no mask.
            yield rows, model.network.model(input_ids=ids.long(), use_cache=False).last_hidden_state
