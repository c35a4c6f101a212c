"""The log probability bias score: a brute force, planted and absent associations, words left out, and intervals."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import InputError, SettingError
from stages.models import files, pretrained
from stages.models.encoders import tokenizer
from stages.models.masked import MaskedLanguageModel
from stages.results.metrics import METRICS
from stages.score.log_probability_bias import bias_scores, measure, read
from stages.score.settings import LogProbabilityBiasSettings, LogProbabilityBiasTest

NAME = "test/log_probability_bias"
TEMPLATES = ["[TARGET] fa [ATTRIBUTE] fe", "fi [ATTRIBUTE] fo [TARGET]"]
CAUSAL = ["fa fe [ATTRIBUTE] [TARGET] fi", "[ATTRIBUTE] fo [TARGET]"]


def settings(templates=TEMPLATES, **changes: Any) -> LogProbabilityBiasTest:
    usual = {
        "templates": templates,
        "targets": {"first": ["ba", "be"], "second": ["du", "do"]},
        # Of one token and of two.
        "attributes": {"first": ["ka", "ke ki", "ko"], "second": ["la", "le", "li·lo"]},
    }
    return LogProbabilityBiasTest.model_validate(usual | changes)


def alone(test):
    return LogProbabilityBiasSettings(tests={"one": test})


def measured(model, test):
    """Return the table, and the metrics by their names without that of the test."""
    table, found = measure(model, read("", alone(test)), alone(test), seed=0)
    assert set(table["test"]) == {"one"}
    assert all(key.split("/")[2] == "one" for key in found)
    return table, {key.replace("/one", "", 1): value for key, value in found.items()}


@pytest.fixture
def masked(masked_settings):
    return files.build(masked_settings(head=True), [], [], seed=0).eval()


@pytest.fixture
def causal(language_settings):
    return files.build(language_settings(adapters=None), [], [], seed=0).eval()


def ids(model, text):
    """Return the tokens of a text of words that are known."""
    of_masked = isinstance(model, MaskedLanguageModel)
    tokenize = tokenizer(model.settings.encoder, 16) if of_masked else pretrained.tokenizer(model.settings)
    return tokenize.encode(text).ids


def masked_score(model, template, attribute, given):
    """Return the score of an attribute as the paper words it, one probability at a time."""
    pieces = len(ids(model, attribute)) - 2
    hidden = " ".join(["[MASK]"] * pieces)
    place = 1 if template.startswith("[TARGET]") else None

    def probability(shown, word):
        text = ids(model, template.replace("[TARGET]", "[MASK]").replace("[ATTRIBUTE]", shown))
        at = place or max(number for number, token in enumerate(text) if token == model.mask_token)
        with torch.no_grad():
            said = model.logits(torch.tensor([text]), torch.tensor([len(text)]), torch.tensor([[at]]))[0, 0]
        return float(torch.softmax(said.double(), dim=0)[ids(model, word)[1]])

    def increased(words):
        target, prior = (sum(probability(shown, word) for word in words) for shown in (attribute, hidden))
        return math.log(target / prior)

    return increased(given.targets.first) - increased(given.targets.second)


def causal_score(model, template, attribute, given):
    def probability(text, word):
        tokens = ids(model, text)
        with torch.no_grad():
            said = model.network(input_ids=torch.tensor([tokens])).logits[0, -1]
        return float(torch.softmax(said.double(), dim=0)[ids(model, word)[1]])

    def increased(words):
        begun = template.split(" [TARGET]")[0].replace("[ATTRIBUTE]", attribute)
        target, prior = (sum(probability(text, word) for word in words) for text in (begun, ""))
        return math.log(target / prior)

    return increased(given.targets.first) - increased(given.targets.second)


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize(
    ("kind", "templates", "brute"), [("masked", TEMPLATES, masked_score), ("causal", CAUSAL, causal_score)]
)
def test_scores_are_those_of_a_brute_force(kind, templates, brute, chunk, request):
    model = request.getfixturevalue(kind)
    model.chunk = chunk
    given = settings(templates)
    if kind == "causal":
        given = settings(templates, attributes={"first": ["ka", "ke ki"], "second": ["la", "le"]})
    table, found = measured(model, given)
    sides = [given.attributes.first, given.attributes.second]
    assert len(table) == 2 * sum(map(len, sides))
    for row in table.itertuples():
        expected = brute(model, row.template, row.attribute, given)
        assert row.score == pytest.approx(expected, abs=1e-5)
        assert row.first_targets - row.second_targets == pytest.approx(row.score)
    means = [[np.mean([brute(model, each, word, given) for each in templates]) for word in side] for side in sides]
    difference = np.mean(means[0]) - np.mean(means[1])
    assert abs(difference) > 1e-3
    assert found[NAME].value == pytest.approx(difference, abs=1e-5)
    spread = np.std([*means[0], *means[1]], ddof=1)
    assert found[f"{NAME}_effect_size"].value == pytest.approx(difference / spread, rel=1e-4)
    assert found[NAME].n == sum(map(len, sides))


@pytest.mark.parametrize(("kind", "templates"), [("masked", TEMPLATES), ("causal", CAUSAL)])
def test_a_model_that_looks_at_no_context_has_no_bias_and_no_effect(kind, templates, request):
    model = request.getfixturevalue(kind)
    head = model.head if kind == "masked" else model.network.lm_head
    inner = head.forward
    head.forward = lambda states: inner(torch.ones_like(states))
    given = settings(templates, attributes={"first": ["ka", "ke"], "second": ["la", "le"]})
    table, found = measured(model, given)
    assert np.abs(table[["first_targets", "second_targets", "score"]]).to_numpy().max() < 1e-6
    assert found[NAME].value == pytest.approx(0, abs=1e-6)
    assert f"{NAME}_effect_size" not in found


@pytest.mark.parametrize("swapped", ["targets", "attributes"])
def test_sides_that_are_swapped_turn_the_sign(masked, swapped):
    given = settings()
    sides = getattr(given, swapped)
    other = settings(**{swapped: {"first": sides.second, "second": sides.first}})
    before, after = (measured(masked, each)[1] for each in (given, other))
    for name in (NAME, f"{NAME}_effect_size"):
        assert after[name].value == pytest.approx(-before[name].value)


def test_words_outside_the_vocabulary_or_of_several_tokens_are_named_and_left_out(masked):
    plain = settings(attributes={"first": ["ka", "ko"], "second": ["la", "le"]})
    more = settings(
        targets={"first": ["ba", "bu-bi", "be"], "second": ["du", "dax", "do"]},
        attributes={"first": ["ka", "ko", "ki zax"], "second": ["la", "le"]},
    )
    (table, found), (without, expected) = measured(masked, more), measured(masked, plain)
    pd.testing.assert_frame_equal(table, without)
    counts = {key.removeprefix(f"{NAME}_"): each.value for key, each in found.items() if "left_out" in key}
    assert counts == {
        "targets_left_out": 2,
        "targets_left_out/bu-bi": 2,
        "targets_left_out/dax": 1,
        "attributes_left_out": 1,
        "attributes_left_out/ki zax": 1,
    }
    assert found[NAME] == expected[NAME]
    assert expected[f"{NAME}_targets_left_out"].value == expected[f"{NAME}_attributes_left_out"].value == 0


@pytest.mark.parametrize(("kind", "side"), [("targets", "first"), ("attributes", "second")])
def test_a_side_without_a_word_that_is_known_is_refused(masked, kind, side):
    words = getattr(settings(), kind).model_dump()
    with pytest.raises(SettingError) as refused:
        measured(masked, settings(**{kind: words | {side: ["dax"]}}))
    assert refused.value.setting == f"measures.log_probability_bias.tests.one.{kind}.{side}"


def test_a_causal_model_must_have_read_the_attribute(causal):
    with pytest.raises(SettingError, match=r"\[TARGET\] before \[ATTRIBUTE\], which a causal model has not read"):
        measured(causal, settings(TEMPLATES))


def test_a_text_that_would_be_cut_is_refused(masked, causal):
    attributes = {"first": ["ka", "ke"], "second": ["la", " ".join(["le"] * 30)]}
    for model, templates in ((masked, TEMPLATES), (causal, CAUSAL)):
        with pytest.raises(InputError, match="would cut a sentence of"):
            measured(model, settings(templates, attributes=attributes))


def scored(first, second, templates=("one", "two")):
    """Return a table of scores that are the same in all templates."""
    rows = [
        (template, side, f"{side}{number}", float(score))
        for template in templates
        for side, scores in (("first", first), ("second", second))
        for number, score in enumerate(scores)
    ]
    return pd.DataFrame(rows, columns=["template", "side", "attribute", "score"])


def test_the_effect_size_is_that_computed_by_hand():
    found = bias_scores(scored([2, 3], [1, 2]), seed=0)
    # The standard deviation of 2, 3, 1, 2 with divisor 3.
    assert found[NAME].value == pytest.approx(1)
    assert found[f"{NAME}_effect_size"].value == pytest.approx(1 / math.sqrt(2 / 3))


def test_an_interval_is_of_attributes_within_sides():
    # The mean of four of 0 and 1, less a side without spread: 2.5% and 97.5% of a binomial of four.
    found = bias_scores(scored([0, 1, 0, 1], [0.5] * 4), seed=0)[NAME]
    assert (found.value, found.n) == (0, 8)
    assert (found.ci_low, found.ci_high) == (-0.5, 0.5)
    assert bias_scores(scored([0, 1, 0, 1], [0.5] * 4), seed=0)[NAME] == found


def test_an_interval_is_of_templates_too():
    table = scored([1, 1], [0, 0], ("one", "two"))
    table["score"] *= table["template"].map({"one": 0.0, "two": 1.0})
    found = bias_scores(table, seed=0)[NAME]
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0, 1)


def test_intervals_are_those_of_sides_and_templates_that_are_drawn_one_by_one():
    draws = np.random.default_rng(0)
    scores = draws.normal(size=(3, 8))
    table = pd.concat(scored(each[:4], each[4:], (f"t{number}",)) for number, each in enumerate(scores))
    replicates = []
    for _ in range(4000):
        means = scores[draws.integers(3, size=3)].mean(axis=0)
        first, second = means[draws.integers(4, size=4)], means[4 + draws.integers(4, size=4)]
        difference = first.mean() - second.mean()
        replicates.append([difference, difference / np.std([*first, *second], ddof=1)])
    low, high = np.percentile(replicates, [2.5, 97.5], axis=0)
    found = bias_scores(table, seed=0)
    for place, name in enumerate((NAME, f"{NAME}_effect_size")):
        assert (found[name].ci_low, found[name].ci_high) == pytest.approx((low[place], high[place]), abs=0.2)


def test_one_attribute_of_a_side_has_no_interval():
    found = bias_scores(scored([2], [1, 2]), seed=0)
    assert (found[NAME].value, found[NAME].ci_low, found[NAME].ci_high) == (0.5, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": ["[TARGET] fa"]}, r"must have \[TARGET\] and \[ATTRIBUTE\], once each"),
        ({"templates": ["[TARGET] [TARGET] [ATTRIBUTE]"]}, "once each"),
        ({"templates": [TEMPLATES[0]] * 2}, "two of `templates` are alike"),
        ({"targets": {"first": ["ba"], "second": ["ba"]}}, "ba: name each word once, on one side"),
        ({"attributes": {"first": [" "], "second": ["ba"]}}, "attributes.first.0"),
        ({"attributes": {"first": [], "second": ["ba"]}}, "attributes.first"),
    ],
)
def test_settings_that_say_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_data_that_would_not_be_read_are_refused():
    with pytest.raises(ValueError, match="`dataset` trees would not be read: leave it out"):
        LogProbabilityBiasSettings(dataset="trees", tests={"one": settings()})


def test_several_tests_are_measured_as_each_alone(masked):
    others = {"one": settings(), "two": settings(TEMPLATES[:1])}
    both = LogProbabilityBiasSettings(tests=others)
    table, found = measure(masked, read("", both), both, seed=0)
    for name, test in others.items():
        own, expected = measured(masked, test)
        part = table[table["test"] == name].drop(columns="test").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, own.drop(columns="test"))
        assert {key.replace(f"/{name}", "", 1): value for key, value in found.items() if f"/{name}" in key} == expected


def test_models_over_bytes_are_not_taken(byte_settings, language_settings, masked_settings):
    takes = LogProbabilityBiasSettings.takes
    assert takes(language_settings())
    assert takes(masked_settings())
    assert not takes(byte_settings)
    assert read("", alone(settings()))["side"].value_counts().to_dict() == {"first": 6, "second": 6}


def test_the_command_measures_without_data_of_its_own(study, masked_settings):
    study.parameters["models"]["mean"] = masked_settings(head=True).model_dump(mode="json")
    toy = study.parameters["toy"]
    toy["train"]["base"]["epochs"] = 1
    toy["score"]["base"]["measures"] = {"log_probability_bias": {"tests": {"one": settings().model_dump()}}}
    study.done("train", "none")
    metrics = study.done("score", "none")["metrics"]
    table = pd.read_parquet("data/scores/toy/none/log_probability_bias.parquet")
    means = table.groupby("side")["score"].mean()
    assert metrics[f"{NAME}/one"]["0"]["value"] == pytest.approx(means["first"] - means["second"])
    assert {key.split("/")[1] for key in metrics} <= set(METRICS)
