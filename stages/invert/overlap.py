"""How much of private texts is in texts that were reconstructed, by tokens."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

Text = Sequence[int]


class Overlap(NamedTuple):
    """Of a private text and a reconstruction: the share of right tokens in their place, and three ROUGE F1."""

    token_accuracy: float
    rouge1: float
    rouge2: float
    rougel: float


def overlap(private: Text, found: Text) -> Overlap:
    """Return how much of a private text, which has tokens, is in another."""
    right = sum(one == other for one, other in zip(private, found, strict=False))
    return Overlap(
        right / len(private), ngram_f1(private, found, 1), ngram_f1(private, found, 2), subsequence_f1(private, found)
    )


def matched(private: Sequence[Text], found: Sequence[Text]) -> list[int]:
    """Return for each private text the reconstruction that stands for it, one for each (Hungarian method).

    Which text of a batch a reconstruction is of the server does not know; those are matched whose three ROUGE F1 have
    the largest sum.
    """
    gains = np.array([[sum(overlap(text, other)[1:]) for other in found] for text in private])
    _, columns = linear_sum_assignment(gains, maximize=True)
    return [int(column) for column in columns]


def ngram_f1(private: Text, found: Text, n: int) -> float:
    """Return F1 of the n-grams of two texts, each counted as often as both have it (Lin 2004, ROUGE-N); 0 of none."""
    one, other = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (private, found))
    return _f1((one & other).total(), one.total(), other.total())


def subsequence_f1(private: Text, found: Text) -> float:
    """Return F1 of the longest common subsequence of two texts (Lin 2004, ROUGE-L)."""
    row = [0] * (len(found) + 1)
    for token in private:
        above = row
        row = [0]
        for place, other in enumerate(found):
            row.append(above[place] + 1 if token == other else max(above[place + 1], row[place]))
    return _f1(row[-1], len(private), len(found))


def _f1(both: int, one: int, other: int) -> float:
    return 2 * both / (one + other) if both else 0.0
