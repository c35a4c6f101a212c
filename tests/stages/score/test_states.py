"""Vectors of words and texts, and the kinds that read them: against states of one text at a time."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import InputError, SettingError
from stages.models import files
from stages.models.masked import MaskedLanguageModel
from stages.score import ceat, seat, weat
from stages.score.association import Stimuli
from stages.score.settings import CeatSettings, SeatSettings, StimuliSettings, WeatSettings
from stages.score.states import place_of, text_vectors, vectors_in_contexts, word_vectors

TEST = {"x": ["ba", "be", "bi"], "y": ["da", "de", "di"], "a": ["ka", "ke"], "b": ["la", "le"]}
TEMPLATES = {"target_templates": ["fa {}", "{} fe"], "attribute_templates": ["fi {}"]}


@pytest.fixture(params=["masked", "causal"])
def model(request, masked_settings, language_settings):
    settings = {"masked": masked_settings(head=True), "causal": language_settings(adapters=None, max_length=16)}
    return files.build(settings[request.param], [], [], seed=0).eval()


@torch.no_grad()
def states(model, text):
    """Return the last states of a text's own tokens, and of all of them."""
    encoded = model.encode([text])
    if isinstance(model, MaskedLanguageModel):
        every = model.encoder(encoded.ids, encoded.lengths)[0]
        return every[1:-1].numpy(), every.numpy()
    every = model.network.model(input_ids=encoded.ids.long()).last_hidden_state[0]
    return every[1:].numpy(), every.numpy()


def test_texts_are_read_as_each_alone_by_every_pooling(model):
    texts = ["ba be bi", "ka", "fa fe fi fo fu"]
    for pooling in ("mean", "first", "last"):
        found = text_vectors(model, texts, pooling)
        for row, text in zip(found, texts, strict=True):
            own, every = states(model, text)
            expected = {"mean": own.mean(axis=0), "first": every[0], "last": every[-1]}[pooling]
            np.testing.assert_allclose(row, expected, atol=1e-5)


def test_a_word_in_its_contexts_is_the_mean_of_its_tokens_where_it_first_stands(model):
    texts = ["fa be fe", "be", "fa babe", "fa fe fi BE be", "du " * 20 + "be"]
    found = vectors_in_contexts(model, "be", texts)
    # Within another word it is none, and behind what is read neither.
    assert len(found) == 3
    for row, (text, place) in zip(found, (("fa be fe", 1), ("be", 0), ("fa fe fi BE be", 3)), strict=True):
        np.testing.assert_allclose(row, states(model, text)[0][place], atol=1e-5)
    assert vectors_in_contexts(model, "be", ["fa"]).shape == (0, 0)


def test_the_tokens_of_a_word_are_joined(masked_settings):
    model = files.build(masked_settings(head=True), [], [], seed=0).eval()
    [found] = vectors_in_contexts(model, "ka·ke", ["fa ka·ke fe"])
    np.testing.assert_allclose(found, states(model, "fa ka·ke fe")[0][1:3].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("text", "place"), [("an Ash.", (3, 6)), ("ashes", None), ("a (ash)", (3, 6)), ("", None)])
def test_a_word_is_a_whole_word_of_any_case(text, place):
    assert place_of("ash", text) == place


def test_words_are_looked_up_and_those_of_several_tokens_or_none_counted(masked_settings):
    model = files.build(masked_settings(head=True), [], [], seed=0).eval()
    found, pieces = word_vectors(model, ["ba", "ka·ke", "dax"])
    assert set(found) == {"ba"}
    assert pieces == {"ka·ke": 2, "dax": 1}
    [token] = model.encode(["ba"]).ids[0, 1:-1].tolist()
    assert np.array_equal(found["ba"], model.encoder.table[token].detach().numpy())


def test_a_text_that_would_be_cut_is_refused(model):
    with pytest.raises(InputError, match="max_length: 16 would cut a sentence of"):
        text_vectors(model, ["ba " * 20], "mean")


def effect_size(vectors, x, y, a, b):
    """Return the effect size of WEAT by its definition."""

    def cosine(first, second):
        return first @ second / np.linalg.norm(first) / np.linalg.norm(second)

    def associated(word):
        of_a, of_b = (np.mean([cosine(vectors[word], vectors[other]) for other in some]) for some in (a, b))
        return of_a - of_b

    of_x, of_y = ([associated(word) for word in some] for some in (x, y))
    return (np.mean(of_x) - np.mean(of_y)) / np.std([*of_x, *of_y], ddof=1)


def test_weat_is_of_the_vectors_of_tokens(model):
    settings = WeatSettings.model_validate({"tests": {"one": TEST}})
    table, found = weat.measure(model, weat.read("", settings), settings, seed=0)
    vectors, _ = word_vectors(model, [word for some in TEST.values() for word in some])
    assert found["test/weat_effect_size/one"].value == pytest.approx(effect_size(vectors, **TEST), rel=1e-4)
    assert found["test/weat_words_left_out/one"].value == 0
    assert table[["test", "set"]].value_counts().to_dict() == {
        ("one", "X"): 3,
        ("one", "Y"): 3,
        ("one", "A"): 2,
        ("one", "B"): 2,
    }


def test_seat_is_of_filled_templates(model):
    settings = SeatSettings.model_validate({"tests": {"one": TEST}, "pooling": "mean", **TEMPLATES})
    _, found = seat.measure(model, seat.read("", settings), settings, seed=0)
    sets = {
        name: [
            template.replace("{}", word)
            for word in words
            for template in TEMPLATES["target_templates" if name in "xy" else "attribute_templates"]
        ]
        for name, words in TEST.items()
    }
    vectors = {text: states(model, text)[0].mean(axis=0) for texts in sets.values() for text in texts}
    assert found["test/seat_effect_size/one"].value == pytest.approx(effect_size(vectors, **sets), rel=1e-4)


def test_ceat_of_one_context_each_is_weat_of_these(study, model):
    del study
    words = [word for some in TEST.values() for word in some]
    rows = [{"example_id": word, "text": f"fu {word} fo", "label": "ash"} for word in words]
    pd.DataFrame(rows).to_parquet("data/prepared/trees/train.parquet")
    settings = CeatSettings.model_validate({"tests": {"one": TEST}, "contexts": 5, "samples": 20})
    table, found = ceat.measure(model, ceat.read("trees", settings), settings, seed=0)
    vectors = {word: states(model, f"fu {word} fo")[0][1] for word in words}
    assert found["test/ceat_effect_size/one"].value == pytest.approx(effect_size(vectors, **TEST), rel=1e-3)
    assert found["test/ceat_contexts/one"].value == len(words)
    assert table["read"].tolist() == [1] * len(words)


def test_no_more_contexts_are_read_than_asked_and_the_seed_draws_them(study, model):
    del study
    words = [word for some in TEST.values() for word in some]
    rows = [
        {"example_id": f"{word}{number}", "text": f"{'fu ' * number}{word} fo", "label": "ash"}
        for word in words
        for number in range(6)
    ]
    pd.DataFrame(rows).to_parquet("data/prepared/trees/train.parquet")
    settings = CeatSettings.model_validate({"tests": {"one": TEST}, "contexts": 2, "samples": 5})
    contexts = ceat.read("trees", settings)
    (table, first), (_, same), (_, other) = (ceat.measure(model, contexts, settings, seed) for seed in (0, 0, 1))
    assert table["contexts"].tolist() == [6] * len(words)
    assert table["read"].tolist() == [2] * len(words)
    assert first == same
    assert first["test/ceat_effect_size/one"].value != other["test/ceat_effect_size/one"].value


def test_too_few_words_with_a_vector_are_named(model, study):
    del study
    tests = {"one": TEST | {"x": ["ba", "dax", "zax"]}}
    settings = WeatSettings.model_validate({"tests": tests})
    with pytest.raises(
        SettingError, match="word set X: 1 of its 3 words have a vector; without one: dax, zax"
    ) as refused:
        weat.measure(model, weat.read("", settings), settings, seed=0)
    assert refused.value.setting == "measures.weat.tests.one"
    pd.DataFrame([{"example_id": "t", "text": "ba be", "label": "ash"}]).to_parquet("data/prepared/trees/train.parquet")
    settings = CeatSettings.model_validate({"tests": {"one": TEST}, "contexts": 2})
    with pytest.raises(SettingError, match="word set Y: 0 of its 3 words have a vector"):
        ceat.measure(model, ceat.read("trees", settings), settings, seed=0)


def test_a_published_test_is_named_by_its_number():
    settings = WeatSettings.model_validate({"tests": {"careers": {"number": 6}}})
    stimuli = weat.read("", settings)["careers"]
    assert isinstance(stimuli, Stimuli)
    assert "executive" in stimuli.a


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "give the `number` of a published test, or all of x, y, a and b"),
        ({"number": 6, **TEST}, "give the `number` of a published test"),
        (TEST | {"b": []}, "all of x, y, a and b"),
        ({"number": 11}, "less than or equal to 10"),
        (TEST | {"x": ["ba", "ba"]}, "`ba` stands twice in a set"),
        (TEST | {"y": ["ba", "de"]}, "`ba` is in both sets of targets, or of attributes"),
    ],
)
def test_words_that_make_no_test_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        StimuliSettings.model_validate(words)


def test_data_that_would_not_be_read_are_refused():
    with pytest.raises(ValueError, match="`dataset` trees would not be read: leave it out"):
        WeatSettings.model_validate({"tests": {"one": TEST}, "dataset": "trees"})


def test_the_command_measures_by_all_three(study, masked_settings):
    study.parameters["models"]["mean"] = masked_settings(head=True).model_dump(mode="json")
    toy = study.parameters["toy"]
    toy["train"]["base"]["epochs"] = 0
    toy["score"]["base"]["measures"] = {
        "weat": {"tests": {"one": TEST}},
        "seat": {"tests": {"one": TEST}, "pooling": "first", **TEMPLATES},
        "ceat": {"tests": {"one": TEST}, "contexts": 3, "samples": 10},
    }
    study.done("train", "none")
    metrics = study.done("score", "none")["metrics"]
    for kind in ("weat", "seat", "ceat"):
        assert metrics[f"test/{kind}_effect_size/one"]["0"]["n"] == 6
        assert 0 <= metrics[f"test/{kind}_p_value/one"]["0"]["value"] <= 1
        table = pd.read_parquet(f"data/scores/toy/none/{kind}.parquet")
        assert len(table) == 10
