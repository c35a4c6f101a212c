"""Word vectors as word2vec and GloVe write them in text: on each line a word and its numbers, parted by spaces."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv
from tokenizers import NormalizedString, PreTokenizedString, Regex, Tokenizer, models
from tokenizers.pre_tokenizers import PreTokenizer
from torch import Tensor

from stages.common.errors import InputError
from stages.models.settings import SplitAt

REMEDY = "give word vectors as text: on each line a word and its numbers, parted by single spaces"
# Bytes that are parsed at a time, of the sizes that were tried the fastest.
BLOCK = 2**22
_NUMBER = re.compile(r"[-+]?\.?[0-9]")


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: V words, the first of row 1.
        table: (V + 1, dimension) float32; row 0 is zero, and is that of every word that is not among them.
    """

    words: list[str]
    table: Tensor


def read(path: Path) -> WordVectors:
    """Read a text file of word vectors; of a word that it has twice, the first counts.

    Raises:
        InputError: It is no such file, or a line has other than the first line's number of numbers.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = [file.readline().rstrip("\r\n") for _ in range(2)]
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"not UTF-8 ({error})", REMEDY) from None
    stated = _header(lines[0])
    fields = lines[1 if stated else 0].split(" ")
    # word2vec ends each line with a space.
    columns = [str(column) for column in range(len(fields))]
    used = columns[:-1] if not fields[-1] else columns
    if len(used) < 2:
        raise InputError(str(path), "holds no word vector", REMEDY)
    words: list[str] = []
    parts = [np.zeros((1, len(used) - 1), dtype=np.float32)]
    try:
        with csv.open_csv(
            path,
            csv.ReadOptions(column_names=columns, skip_rows=int(bool(stated)), block_size=BLOCK, use_threads=False),
            csv.ParseOptions(delimiter=" ", quote_char=False, invalid_row_handler=_skip_phrases),
            csv.ConvertOptions(
                # "null" and "nan" are words, and no numbers.
                column_types={used[0]: pa.string(), **dict.fromkeys(used[1:], pa.float32())},
                include_columns=used,
                null_values=[],
            ),
        ) as reader:
            for batch in reader:
                words += batch.column(0).to_pylist()
                parts.append(np.stack([column.to_numpy() for column in batch.columns[1:]], axis=1))
    except pa.ArrowInvalid as error:
        raise InputError(str(path), str(error), REMEDY) from None
    table = np.concatenate(parts)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InputError(str(path), f"the vector of {words[row - 1]!r} is not finite", REMEDY)
    if stated and stated != (len(words), table.shape[1]):
        found = f"{len(words)} words of {table.shape[1]} numbers"
        raise InputError(str(path), f"{found}, though its first line says {lines[0]}", "give the whole file")
    return WordVectors(words, torch.from_numpy(table))


def _skip_phrases(row: csv.InvalidRow) -> str:
    # GloVe's own files have a few "words" with a space inside, which are no words of any text.
    phrase = row.actual_columns > row.expected_columns and not _NUMBER.match(row.text.split(" ")[1])
    return "skip" if phrase else "error"


def _header(line: str) -> tuple[int, int] | None:
    """Return rows and dimensions, if that is what a first line states."""
    fields = line.split(" ")
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(map(str.isdecimal, fields)) else None


def tokenizer(words: list[str], split_at: SplitAt) -> Tokenizer:
    """Return what gives each word of a text its row: as it is written, else in small letters, else 0.

    Args:
        words: Of row 1 and on.
        split_at: What parts words, and is dropped: white space, or all that is no letter, digit or underscore.
    """
    # Backwards, so that of equal words the first counts. No word is empty, so the name of row 0 is no word's.
    rows = {word: row for row, word in reversed(list(enumerate(words, start=1)))} | {"": 0}
    tokenize = Tokenizer(models.WordLevel(rows, unk_token=""))
    tokenize.pre_tokenizer = PreTokenizer.custom(
        _Words(rows, Regex({"spaces": r"\s+", "punctuation": r"\W+"}[split_at]))
    )
    return tokenize


class _Words:
    """Split text, and write words that are not known in small letters."""

    def __init__(self, known: dict[str, int], between: Regex) -> None:
        self._known, self._between = known, between

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(lambda _, part: part.split(self._between, "removed"))
        text.normalize(self._normalize)

    def _normalize(self, word: NormalizedString) -> None:
        if word.normalized not in self._known:
            word.lowercase()
