import re

import pytest
import torch

from stages.common.errors import InputError, SettingError
from stages.common.packages import package_path
from stages.models import vectors
from stages.models.vectors import WordVectors
from stages.score import word_lists
from stages.score.association import weat
from stages.score.word_lists import PACKAGE, TESTS, VECTORS, read_stimuli, word_vectors


@pytest.fixture(scope="module")
def word2vec():
    return vectors.read(package_path(PACKAGE, VECTORS))


@pytest.mark.parametrize(
    ("test", "effect_size"), [(1, 1.54), (2, 1.63), (6, 1.89), (7, 0.97), (8, 1.24), (9, 1.30)], ids=str
)
def test_word2vec_is_as_biased_as_was_measured_before(word2vec, test, effect_size):
    stimuli = read_stimuli(test)
    words = [word for some in stimuli.sets().values() for word in some]
    found = weat(stimuli, word_vectors(words, word2vec), seed=0, permutations=13_000)
    assert found.effect_size.value == pytest.approx(effect_size, abs=0.005)
    assert found.missing == ({"Y": ("axe",)} if test == 2 else {})
    assert found.exact == (test >= 6)


@pytest.mark.parametrize("test", TESTS)
def test_the_package_has_the_lists_of_every_test(test):
    assert all(read_stimuli(test).sets().values())


def test_a_list_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(word_lists.TESTS, 6, ("male_names", "ash", "career", "family"))
    with pytest.raises(InputError, match=r"WEAT.json: has no list ash; it has: .*career"):
        read_stimuli(6)


def test_there_are_ten_tests():
    with pytest.raises(SettingError, match=re.escape("allowed: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10")):
        read_stimuli(11)


def test_vectors_are_those_of_words_as_they_are_written():
    known = WordVectors(["ash", "Ash", "ash"], torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    found = word_vectors(["Ash", "ash", "ASH"], known)
    assert {word: vector.tolist() for word, vector in found.items()} == {"Ash": [2.0], "ash": [1.0]}
