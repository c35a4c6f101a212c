"""Prepared tables as the tensors a model is trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from stages.common import artifacts
from stages.common.errors import InputError
from stages.common.paths import prepared_path
from stages.models.encoders import IGNORED_TAG, EncodedText, encode, tokenizer
from stages.models.reading import Reading
from stages.models.settings import ModelSettings, WordsEncoder


@dataclass(frozen=True)
class Vocabulary:
    """Label and tag names in index order; `tags` is empty for data without tags."""

    labels: list[str]
    tags: list[str]


@dataclass(frozen=True)
class Examples:
    """n examples of one split.

    Attributes:
        example_ids: (n,) names of the examples.
        text: Encoded text, n rows.
        labels: (n,) label indices; all 0 for other models than classifiers, which look at no label.
        tags: (n, length) tag index of the token that begins each word, IGNORED_TAG elsewhere; None without tags.
        words: The tags of all words of each text, also those that were cut off; empty without tags.
        reading: Contexts and answers, for a span model alone.
        targets: What is to be written, for a language model with `sequence_to_sequence` alone; otherwise empty.
    """

    example_ids: NDArray[np.object_]
    text: EncodedText
    labels: Tensor
    tags: Tensor | None
    words: list[list[str]]
    reading: Reading | None = None
    targets: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.int64]) -> "Examples":
        tags = None if self.tags is None else self.tags[rows]
        words = [self.words[row] for row in rows] if self.words else []
        asked = None if self.reading is None else self.reading[rows]
        targets = [self.targets[row] for row in rows] if self.targets else []
        return Examples(self.example_ids[rows], self.text[rows], self.labels[rows], tags, words, asked, targets)


def joined(first: Examples, second: Examples) -> Examples:
    """Return the examples of both, which must be of one model that reads whole texts; the shorter rows are padded."""
    width = max(first.text.ids.shape[1], second.text.ids.shape[1])

    def both(left: Tensor, right: Tensor, padding: int) -> Tensor:
        return torch.cat([pad(each, (0, width - each.shape[1]), value=padding) for each in (left, right)])

    text = EncodedText(
        both(first.text.ids, second.text.ids, 0),
        torch.cat([first.text.lengths, second.text.lengths]),
        both(first.text.words, second.text.words, -1),
    )
    tags = None if first.tags is None or second.tags is None else both(first.tags, second.tags, IGNORED_TAG)
    return Examples(
        np.concatenate([first.example_ids, second.example_ids]),
        text,
        torch.cat([first.labels, second.labels]),
        tags,
        [*first.words, *second.words],
    )


def read_split(dataset: str, split: str) -> pd.DataFrame:
    """Return one prepared split of a data set; InputError if it is not there or empty."""
    path = prepared_path(dataset, split)
    if not path.is_file() and path.parent.is_dir():
        problem = f"{dataset} has no split `{split}`"
        raise InputError(
            str(path), problem, "give it in `files` or `splits` of the data set, or name data that have it"
        )
    table = artifacts.read_table(path)
    if table.empty:
        raise InputError(str(path), "holds no rows", "prepare the data set again with other splits or limits")
    return table


def vocabulary(train: pd.DataFrame) -> Vocabulary:
    """Return the labels and tags of the training split, sorted; InputError if its tags are not BIO tags."""
    tags = sorted({tag for row in train["tags"] for tag in row}) if "tags" in train else []
    if other := [tag for tag in tags if tag.partition("-")[0] not in ("B", "I", "O")]:
        raise InputError("prepared data", f"tag {other[0]!r} is no BIO tag", "allowed: O, B-type, I-type")
    return Vocabulary(sorted(train["label"].unique()), tags)


def unlabelled(
    table: pd.DataFrame, text: EncodedText, reading: Reading | None = None, targets: Sequence[str] = ()
) -> Examples:
    """Return a prepared table as examples of a model that looks at no label, with what it reads besides the text."""
    labels = torch.zeros(len(table), dtype=torch.int64)
    return Examples(table["example_id"].to_numpy(), text, labels, None, [], reading, list(targets))


def labelled(table: pd.DataFrame, settings: ModelSettings, known: Vocabulary) -> Examples:
    """Encode a prepared table for a classifier; InputError for a label that training never saw."""
    label_index = {label: index for index, label in enumerate(known.labels)}
    if unseen := sorted(set(table["label"]) - set(label_index)):
        raise InputError(
            "prepared data",
            f"label {unseen[0]!r} is not in the training split",
            "set when_unseen: drop for the data set",
        )
    with_tags = bool(known.tags)
    words = [list(row) for row in table["tokens"]] if with_tags else list(table["text"])
    if with_tags and isinstance(settings.encoder, WordsEncoder) and settings.encoder.split_at != "spaces":
        # A word of nothing but punctuation would have no place for its tag.
        where = "params.yaml: models: encoder.split_at"
        raise InputError(where, settings.encoder.split_at, "allowed: spaces, where data have words with tags")
    special = settings.encoder.kind == "transformer"
    text = encode(tokenizer(settings.encoder, settings.max_length), words, special)
    labels = torch.tensor([label_index[label] for label in table["label"]], dtype=torch.int64)
    by_word = [list(row) for row in table["tags"]] if with_tags else []
    tags = _token_tags(text, by_word, known) if with_tags else None
    return Examples(table["example_id"].to_numpy(), text, labels, tags, by_word)


def rows_of(dataset_ids: NDArray[np.object_], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Return the row of each wanted example id; InputError if the partition is of other data."""
    position = {name: row for row, name in enumerate(dataset_ids)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise InputError("partition", f"{len(missing)} of its examples are not in the data set", "run `dvc repro`")
    return np.array([position[name] for name in wanted], dtype=np.int64)


def _token_tags(text: EncodedText, by_word: list[list[str]], known: Vocabulary) -> Tensor:
    # A tag that training never saw has no index: there is nothing to learn from it, and nothing that predicts it.
    index = {tag: number for number, tag in enumerate(known.tags)}
    words = text.words.numpy()
    tags = np.full(words.shape, IGNORED_TAG, dtype=np.int64)
    for row, names in enumerate(by_word):
        numbers = np.array([index.get(name, IGNORED_TAG) for name in names], dtype=np.int64)
        starts = words[row] >= 0
        tags[row, starts] = numbers[words[row, starts]]
    return torch.from_numpy(tags)
