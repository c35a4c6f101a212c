"""Masked language models on StereoSet and CrowS-Pairs: one text at a time, as the official codes do it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import InputError
from stages.models import files
from stages.models.encoders import tokenizer
from stages.score import crows_pairs, stereoset
from stages.score.masks import Hidden, log_probabilities_behind_masks, sums


@pytest.fixture(scope="module")
def model(masked_settings):
    return files.build(masked_settings(head=True, max_length=32), [], [], seed=0).eval()


def log_probability(model, ids, place, wanted):
    with torch.no_grad():
        said = model.logits(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([[place]]))
    return float(torch.log_softmax(said[0, 0].double(), dim=0)[wanted])


def tokens(model, text):
    return tokenizer(model.settings.encoder, 32).encode(text).ids


def test_texts_of_any_length_are_read_as_each_alone(model):
    texts = ["ba", "ba be bi bo bu", "ka ke ki", "la"]
    hidden = []
    for text in texts:
        ids = tokens(model, text)
        hidden.append(Hidden([ids[0], model.mask_token, *ids[2:]], 1, ids[1]))
    found = log_probabilities_behind_masks(model, hidden)
    assert found == pytest.approx([log_probability(model, *each) for each in hidden], abs=1e-5)


def test_a_text_that_would_be_cut_is_refused(masked_settings):
    small = files.build(masked_settings(max_length=8), [], [], seed=0).eval()
    with pytest.raises(InputError, match="max_length: 8 would cut a sentence of 9 tokens that is measured; train a"):
        log_probabilities_behind_masks(small, [Hidden([4] * 9, 1, 4)])


def test_sums_are_by_cell():
    assert sums(np.array([1.0, 2, 4, 8]), [(0, 0), (1, 1), (0, 0), (1, 0)], (2, 2)).tolist() == [[5, 0], [8, 2]]
    assert sums(np.array([]), [], (1, 2)).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("ba BLANK bi", ("ka", "ke", "ki")),
        ("BLANK.", ("ka", "fo", "lu")),
        ("ba be BLANK, bo", ("ka·ke", "ka·ke·ki", "fo")),
    ],
)
def test_items_are_scored_as_the_official_code_does(model, context, words):
    item = {"text": context, "task": "intrasentence"}
    for name, word in zip(stereoset.SENTENCES, words, strict=True):
        # Its punctuation is none of the word.
        item[name] = context.replace("BLANK", word)
    [found] = stereoset.masked_scores(model, pd.DataFrame([item]))
    before, after = context.split("BLANK")
    for score, word in zip(found, words, strict=True):
        pieces = tokens(model, word)[1:-1]
        probabilities = []
        for count in range(len(pieces)):
            ids = [*tokens(model, before)[:-1], *pieces[:count], model.mask_token, *tokens(model, after)[1:]]
            place = len(tokens(model, before)) - 1 + count
            probabilities.append(math.exp(log_probability(model, ids, place, pieces[count])))
        assert score == pytest.approx(sum(probabilities) / len(probabilities), rel=1e-4)


def test_pairs_are_scored_as_the_official_code_does(model):
    pairs = pd.DataFrame({"stereotype": ["ba be bi bo", "fa"], "antistereotype": ["ba ka ke bo", "fe"]})
    found = crows_pairs.masked_scores(model, pairs)
    assert list(found) == ["unmodified_stereotype", "unmodified_antistereotype"]
    for name in pairs:
        ids = tokens(model, pairs[name][0])
        expected = sum(
            log_probability(model, [*ids[:place], model.mask_token, *ids[place + 1 :]], place, ids[place])
            for place in (1, 4)
        )
        # Of two sentences that share no word nothing is said.
        assert found[f"unmodified_{name}"].tolist() == pytest.approx([expected, 0], rel=1e-5)
