"""Sequence to sequence with a causal language model: it reads a source and a prompt, and goes on with the target.

What is read is the mark of a beginning, the source, the prompt, the target and the mark of an end.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.models.encoders import EncodedText, padded_ids
from stages.models.pretrained import end_of_text, tokenizer
from stages.models.settings import LanguageModelSettings, SequenceToSequence

# A word, and the mark of its end.
LEAST = 2


def read(table: pd.DataFrame, settings: LanguageModelSettings) -> tuple[EncodedText, list[str]]:
    """Encode a prepared table: sources are cut at `max_source` tokens, targets where the model's length ends.

    Returns:
        Texts, whose part is the target with the mark of its end, unless that was cut off; and the targets.

    Raises:
        InputError: The table has no targets, or the model's length leaves them no room.
    """
    asked = settings.sequence_to_sequence
    assert asked is not None
    if "target" not in table:
        problem = "has no column `target`, and this language model is to write one"
        raise InputError("prepared data", problem, "declare `target` under `columns` of the data set")
    targets = list(table["target"])
    begun = _beginnings(list(table["text"]), settings, asked)
    longest, end = room(settings), end_of_text(settings)
    written = [[*target, end][:longest] for target in _tokens(targets, settings)]
    ids, lengths = padded_ids([[*before, *after] for before, after in zip(begun, written, strict=True)])
    text = EncodedText(
        torch.from_numpy(ids),
        torch.from_numpy(lengths),
        torch.full(ids.shape, -1, dtype=torch.int16),
        torch.tensor([[len(before), len(before) + len(after)] for before, after in zip(begun, written, strict=True)]),
    )
    return text, targets


def room(settings: LanguageModelSettings) -> int:
    """Return the most tokens of a target, with the mark of its end; InputError if there is room for none."""
    asked = settings.sequence_to_sequence
    assert asked is not None
    tokenize = tokenizer(settings)
    tokenize.no_truncation()
    left = settings.max_length - len(tokenize.encode(asked.prompt).ids) - asked.max_source
    if left < LEAST:
        problem = f"{settings.max_length} leaves no room for a target behind {asked.max_source} tokens and the prompt"
        raise InputError(
            f"{PARAMETERS}: models: max_length", problem, f"give {settings.max_length - left + LEAST} or more"
        )
    return left


def _beginnings(sources: Sequence[str], settings: LanguageModelSettings, asked: SequenceToSequence) -> list[list[int]]:
    """Return what is read of each source before its target is written."""
    tokenize = tokenizer(settings)
    tokenize.no_truncation()
    mark, *prompt = tokenize.encode(asked.prompt).ids
    tokenize.enable_truncation(asked.max_source)
    return [[mark, *each.ids, *prompt] for each in tokenize.encode_batch(list(sources), add_special_tokens=False)]


def padded_left(begun: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (n, longest) token ids that all end together, and which of them are no padding."""
    longest = max(map(len, begun))
    ids = torch.tensor([[0] * (longest - len(each)) + list(each) for each in begun])
    kept = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in begun])
    return ids, kept


def words(written: Tensor, settings: LanguageModelSettings) -> list[str]:
    """Return what token ids (n, length) say, each up to the first mark of an end."""
    tokenize, end = tokenizer(settings), end_of_text(settings)
    rows = [row[: row.index(end)] if end in row else row for row in written.tolist()]
    return [" ".join(text.split()) for text in tokenize.decode_batch(rows)]


def _tokens(targets: Sequence[str], settings: LanguageModelSettings) -> list[list[int]]:
    tokenize = tokenizer(settings)
    # A word within a text is another token than one at its beginning.
    return [e.ids for e in tokenize.encode_batch([f" {text}" for text in targets], add_special_tokens=False)]
