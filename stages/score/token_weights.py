"""Texts as a classifier reads them, and where in the text each of its tokens stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tokenizers import Encoding

from stages.counterfactual.swaps import WORD
from stages.models.encoders import EncodedText, padded_ids, tokenizer
from stages.models.fitted import FittedModel
from stages.sensitivity.gradients import Weights, normalised


@dataclass(frozen=True)
class Tokens:
    """n texts of a classifier.

    Attributes:
        texts: n texts; of words that the data split, joined by spaces.
        encoded: What the classifier reads.
        spans: (n, length, 2) the characters at which a token begins and ends; 0 and 0 of those that are no own token.
        own: (n, length) the tokens that stand for characters: no marks of a text's ends, and no padding.
        names: (n,) what each token is called in its vocabulary.
    """

    texts: list[str]
    encoded: EncodedText
    spans: NDArray[np.int64]
    own: NDArray[np.bool_]
    names: list[list[str]]


def read(model: FittedModel, table: pd.DataFrame) -> Tokens:
    """Encode a prepared table as the classifier is trained on it, with the places of tokens.

    Args:
        model: Whose encoder reads; with tags it reads the words of `tokens`, and `text` without.
        table: n rows.
    """
    tokenize = tokenizer(model.settings.encoder, model.settings.max_length)
    words = [list(row) for row in table["tokens"]] if model.vocabulary.tags else None
    given: Sequence[Sequence[str]] = list(table["text"]) if words is None else words
    encodings = tokenize.encode_batch(
        list(given),
        is_pretokenized=words is not None,
        add_special_tokens=model.settings.encoder.kind == "transformer",
    )
    ids, lengths = padded_ids([each.ids for each in encodings])
    spans = np.zeros((*ids.shape, 2), dtype=np.int64)
    for row, encoding in enumerate(encodings):
        if encoding.ids:
            spans[row, : len(encoding.ids)] = _spans(encoding, None if words is None else words[row])
    no_words = torch.full(ids.shape, -1, dtype=torch.int16)
    return Tokens(
        list(table["text"]) if words is None else [" ".join(row) for row in words],
        EncodedText(torch.from_numpy(ids), torch.from_numpy(lengths), no_words),
        spans,
        spans[..., 1] > spans[..., 0],
        [each.tokens for each in encodings],
    )


def _spans(encoding: Encoding, words: list[str] | None) -> NDArray[np.int64]:
    spans = np.array(encoding.offsets, dtype=np.int64)
    marks = np.array(encoding.special_tokens_mask, dtype=bool)
    if words is not None:
        # Of words that were split before, offsets are within each.
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        spans += np.array([0 if word is None else starts[word] for word in encoding.word_ids])[:, None]
    spans[marks] = 0
    return spans


def uniform(tokens: Tokens) -> Weights:
    """Return (n, length) equal weights of the own tokens of each text; zeros of a text without any."""
    return normalised(tokens.own.astype(np.float64))


def drawn(tokens: Tokens, draws: np.random.Generator) -> Weights:
    """Return (n, length) random weights of own tokens: a control."""
    return normalised(draws.random(tokens.own.shape) * tokens.own)


def of_words(tokens: Tokens, listed: Callable[[str], bool]) -> Weights:
    """Return (n, length) equal weights of the tokens that words stand in; zeros of a text without any of these words.

    Args:
        tokens: Of n texts.
        listed: Whether a word, in lower case, is one of them.
    """
    places = [[match.span() for match in WORD.finditer(text) if listed(match[0].lower())] for text in tokens.texts]
    found = np.zeros(tokens.own.shape)
    for row, spans in enumerate(places):
        for begin, end in spans:
            found[row] += (tokens.spans[row, :, 0] < end) & (tokens.spans[row, :, 1] > begin)
    return normalised((tokens.own & (found > 0)).astype(np.float64))


def carried(weights: Weights, source: Tokens, target: Tokens) -> Weights:
    """Return weights of the tokens of another tokenizer, by the characters that they share.

    A token's weight lies evenly on its characters, so that with one tokenizer weights stay as they are. What the other
    does not read, behind its `max_length`, is left out before they are normalised.

    Args:
        weights: (n, length) of `source`.
        source: The texts as one classifier reads them.
        target: The same texts as another does.
    """
    longest = max(map(len, source.texts), default=0)
    result = np.zeros(target.own.shape)
    for row in range(len(source.texts)):
        by_character = np.zeros(longest)
        for (begin, end), weight in zip(source.spans[row], weights[row], strict=True):
            if end > begin:
                # Bytes of one character are tokens of the same span, and add up.
                by_character[begin:end] += weight / (end - begin)
        sums = np.concatenate([[0.0], by_character.cumsum()])
        result[row] = sums[target.spans[row, :, 1]] - sums[target.spans[row, :, 0]]
    return normalised(result * target.own)
