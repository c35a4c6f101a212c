"""Batches with shared beginnings against one text at a time."""

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.models import files
from stages.score.likelihood import continued_tokens, log_probabilities, whole_tokens
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


def test_what_all_begin_with_is_read_once(compared, any_model):
    model = files.build(any_model, [], [], seed=0).eval()
    texts = [whole_tokens(model, [f"ba be bi {end}" for end in ("du", "fa")])]
    read, forward = [], model.network.forward

    def counted(*args, **given):
        read.append(given["input_ids"].numel())
        return forward(*args, **given)

    model.network.forward = counted
    log_probabilities(model, texts)
    longest = max(map(len, texts[0]))
    assert sum(read) < 2 * (longest - 1)


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
