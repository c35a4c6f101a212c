"""The word lists of WEAT (Caliskan et al. 2017) as the package wefe has them, and the vectors of their words."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.common.artifacts import read_json
from stages.common.errors import InputError, SettingError
from stages.common.packages import package_path
from stages.models.vectors import WordVectors
from stages.score.association import Stimuli

PACKAGE, LISTS, VECTORS = "wefe", "wefe/datasets/data/WEAT.json", "wefe/datasets/data/weat_w2v____old.txt"
# Test -> the lists of X, Y, A and B.
TESTS = {
    1: ("flowers", "insects", "pleasant_5", "unpleasant_5a"),
    2: ("instruments", "weapons", "pleasant_5", "unpleasant_5a"),
    3: ("european_american_names_5", "african_american_names_5", "pleasant_5", "unpleasant_5b"),
    4: ("european_american_names_7", "african_american_names_7", "pleasant_5", "unpleasant_5b"),
    5: ("european_american_names_7", "african_american_names_7", "pleasant_9", "unpleasant_9"),
    6: ("male_names", "female_names", "career", "family"),
    7: ("math", "arts", "male_terms", "female_terms"),
    8: ("science", "arts_2", "male_terms_2", "female_terms_2"),
    9: ("mental_disease", "physical_disease", "temporary", "permanent"),
    # Of its young names the package has Bill, where the released code of CEAT has Billy.
    10: ("young_people_names", "old_people_names", "pleasant_9", "unpleasant_9"),
}


def read_stimuli(test: int) -> Stimuli:
    """Return the words of one of the ten tests.

    Raises:
        SettingError: There is no such test.
        InputError: The package is not installed, or lacks a list.
    """
    if test not in TESTS:
        raise SettingError("test", str(test), f"allowed: {', '.join(map(str, TESTS))}")
    path = package_path(PACKAGE, LISTS)
    return Stimuli(*(_words(path, name) for name in TESTS[test]))


def _words(path: Path, name: str) -> tuple[str, ...]:
    lists = read_json(path)
    if name not in lists:
        raise InputError(str(path), f"has no list {name}", f"it has: {', '.join(sorted(lists))}")
    return tuple(lists[name])


def word_vectors(words: Iterable[str], vectors: WordVectors) -> dict[str, NDArray[np.float32]]:
    """Return word -> (dimension,) of the words that have a vector as they are written, in capitals or not."""
    rows = {word: row for row, word in reversed(list(enumerate(vectors.words, start=1)))}
    return {word: vectors.table[rows[word]].numpy() for word in words if word in rows}
