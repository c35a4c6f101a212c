"""Batches with shared beginnings against one text at a time."""

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.models import files
from stages.score.likelihood import PASS, continued_tokens, log_probabilities, whole_tokens
from tests.stages.score.one_by_one import log_probabilities_one_by_one


@pytest.mark.parametrize("chunk", [1, 6, 1000])
def test_batches_with_shared_beginnings_say_what_one_text_at_a_time_says(compared, any_model, chunk):
    model = files.build(any_model, [], [], seed=0).eval()
    model.chunk = chunk
    groups = [[row.stereotype, row.antistereotype, row.unrelated] for row in compared.itertuples()]
    # One begins another, all are the same, one is alone.
    groups += [["ba be", "ba be bi bo"], ["du", "du"], ["fa fe fi"]]
    found = log_probabilities(model, [whole_tokens(model, group) for group in groups])
    assert [len(texts) for texts in found] == [len(group) for group in groups]
    for texts, group in zip(found, groups, strict=True):
        for said, text in zip(texts, group, strict=True):
            np.testing.assert_allclose(said, log_probabilities_one_by_one(model, text), atol=1e-5)


@pytest.fixture
def passes(any_model):
    """A model, and the shapes of what its network reads, pass by pass."""
    model = files.build(any_model, [], [], seed=0).eval()
    read, forward = [], model.network.forward

    def recorded(*args, **given):
        read.append(tuple(given["input_ids"].shape))
        return forward(*args, **given)

    model.network.forward = recorded
    return model, read


BEGINNING = [4] * (PASS // 2)


@pytest.mark.parametrize(
    ("groups", "shapes"),
    [
        # Two texts of a kind save the beginning once, four of them three times.
        ([[[*BEGINNING, 5, 6], [*BEGINNING, 6, 5]]], [(2, PASS // 2 + 1)]),
        ([[[*BEGINNING, *end] for end in ([5, 6], [6, 5], [5, 5], [6, 6])]], [(1, PASS // 2), (4, 1)]),
        # Nothing is behind the beginning but what is asked for: it takes no further pass.
        ([[[4, 5], [4, 6]]], [(1, 1)]),
        # A group that begins with more is read with one that begins with less.
        (
            [[[*BEGINNING, 4, end, 7] for end in (5, 6, 7)], [[*BEGINNING, end, 7] for end in (5, 6, 8)]],
            [(2, PASS // 2), (6, 2)],
        ),
    ],
    ids=["short", "long", "last", "two"],
)
def test_what_all_begin_with_is_read_once_where_that_saves_more_than_a_pass(passes, groups, shapes):
    model, read = passes
    log_probabilities(model, groups)
    assert read == shapes


def test_no_group_has_nothing(any_model):
    assert log_probabilities(files.build(any_model, [], [], seed=0).eval(), []) == []


def test_a_continued_text_is_that_text_with_a_space_before_what_follows(any_model):
    model = files.build(any_model, [], [], seed=0).eval()
    begun = whole_tokens(model, ["ba be", "du"])
    assert continued_tokens(model, begun, ["fi", "fo fu"]) == whole_tokens(model, ["ba be fi", "du fo fu"])


def test_a_sentence_that_would_be_cut_is_refused(any_model):
    model = files.build(any_model, [], [], seed=0).eval()
    with pytest.raises(InputError, match=f"models: max_length: {any_model.max_length} would cut a sentence of"):
        whole_tokens(model, ["ba", " ".join(["ba"] * 100)])
    with pytest.raises(InputError, match="would cut a sentence of"):
        continued_tokens(model, whole_tokens(model, ["ba"]), [" ".join(["ba"] * 100)])
