from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.models import files
from stages.models.examples import vocabulary
from stages.models.fitted import FittedModel
from stages.score import token_weights
from stages.sensitivity import status
from stages.sensitivity.gradients import jacobian, normalised
from tests.stages.conftest import LABELS


@pytest.fixture
def fitted(model_settings, texts):
    """Return a classifier of three labels that reads texts, or words, with changes of its settings."""

    def build(tags=False, **changes):
        built, known = model_settings(**changes), vocabulary(texts(40, tags))
        model = files.build(built, known.labels, known.tags, seed=0).eval()
        return FittedModel(model, built, known, Path())

    return build


def table(*rows):
    return pd.DataFrame({"example_id": [f"t{row}" for row in range(len(rows))], "text": rows, "label": LABELS[0]})


def shown(read):
    """The characters of each own token."""
    return [
        [text[begin:end] for (begin, end), own in zip(spans, kept, strict=True) if own]
        for text, spans, kept in zip(read.texts, read.spans, read.own, strict=True)
    ]


def test_tokens_are_read_as_in_training_and_stand_at_their_characters(fitted, texts):
    for model in (fitted(), fitted(tags=True)):
        given = texts(8, tags=bool(model.vocabulary.tags))
        read = token_weights.read(model, given)
        expected = model.examples(given).text
        assert read.encoded.ids.tolist() == expected.ids.tolist()
        assert read.encoded.lengths.tolist() == expected.lengths.tolist()
        assert shown(read) == [text.split() for text in given["text"]]
        assert [len(names) for names in read.names] == expected.lengths.tolist()


def test_marks_of_a_text_s_ends_and_padding_are_no_own_tokens(fitted, bert):
    read = token_weights.read(fitted(encoder=bert, hidden=0), table("ba be", "fa"))
    assert read.own.tolist() == [[False, True, True, False], [False, True, False, False]]
    assert shown(read) == [["ba", "be"], ["fa"]]
    np.testing.assert_allclose(token_weights.uniform(read), [[0, 0.5, 0.5, 0], [0, 1, 0, 0]])


def test_words_of_a_list_share_the_weight_and_a_text_without_any_has_none(fitted):
    read = token_weights.read(fitted(), table("ba be ba", "fa", "be Ba fa"))
    found = token_weights.of_words(read, {"ba"}.__contains__)
    np.testing.assert_allclose(found, [[0.5, 0, 0.5], [0, 0, 0], [0, 1, 0]])
    # Of a word of two tokens, either; of a word that has a listed one in it, neither.
    pieces = read_of("xba ba", [(0, 3), (4, 5), (5, 6)])
    np.testing.assert_allclose(token_weights.of_words(pieces, {"ba"}.__contains__), [[0, 0.5, 0.5]])


def test_random_weights_are_of_own_tokens_and_of_the_seed(fitted, bert):
    read = token_weights.read(fitted(encoder=bert, hidden=0), table("ba be bi", "fa", ""))
    drawn = [token_weights.drawn(read, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert not drawn[0][~read.own].any()
    assert drawn[0].sum(axis=1).tolist() == pytest.approx([1, 1, 0])


def test_weights_stay_as_they_are_with_one_tokenizer(fitted, bert):
    read = token_weights.read(fitted(encoder=bert, hidden=0), table("ba be bi", "fa", ""))
    weights = token_weights.drawn(read, np.random.default_rng(0))
    np.testing.assert_allclose(token_weights.carried(weights, read, read), weights)


def test_weights_are_carried_by_characters_and_what_is_cut_off_is_left_out(fitted, bert):
    given = table("ba be bi bo", "fa")
    source, target = (
        token_weights.read(fitted(**each), given) for each in ({"max_length": 3}, {"encoder": bert, "hidden": 0})
    )
    weights = normalised(np.array([[1.0, 2.0, 1.0], [1.0, 0.0, 0.0]]))
    found = token_weights.carried(weights, source, target)
    np.testing.assert_allclose(found[0, 1:5], [0.25, 0.5, 0.25, 0])
    np.testing.assert_allclose(found[1, 1], 1)
    back = token_weights.carried(found, target, source)
    np.testing.assert_allclose(back, weights)
    shorter = token_weights.read(fitted(max_length=2), given)
    np.testing.assert_allclose(token_weights.carried(weights, source, shorter)[0], [1 / 3, 2 / 3])


def test_a_word_of_two_tokens_gives_each_its_part():
    source = read_of("abcd", [(0, 4)])
    target = read_of("abcd", [(0, 1), (1, 4)])
    np.testing.assert_allclose(token_weights.carried(np.array([[1.0]]), source, target), [[0.25, 0.75]])
    np.testing.assert_allclose(token_weights.carried(np.array([[0.25, 0.75]]), target, source), [[1.0]])


def read_of(text, spans):
    spans = np.array([spans])
    return token_weights.Tokens([text], None, spans, spans[..., 1] > spans[..., 0], [[""] * spans.shape[1]])


@pytest.mark.parametrize("kind", ["static", "bert"])
def test_a_status_model_weighs_tokens_by_its_gradients(fitted, bert, kind):
    model = fitted(head="bilstm", hidden=4) if kind == "static" else fitted(encoder=bert, hidden=0)
    read = token_weights.read(model, table("ba be bi", "fa fe"))
    found = status.status_weights(model, read.encoded)
    norms = jacobian(model.classifier, read.encoded).norms[:, 0] * read.own
    np.testing.assert_allclose(found, norms / norms.sum(axis=1, keepdims=True))
    assert len(set(found[0][read.own[0]])) == 3


def test_a_status_model_that_depends_on_nothing_weighs_nothing(fitted):
    model = fitted()
    for parameter in model.classifier.labels.parameters():
        parameter.data.zero_()
    read = token_weights.read(model, table("ba be bi"))
    assert not status.status_weights(model, read.encoded).any()
