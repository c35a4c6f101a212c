import numpy as np
import pandas as pd
import pytest

from stages.results.metrics import METRICS
from stages.score.polarity import (
    DEFINITIONAL_PAIRS,
    disparity,
    gender_of_words,
    gender_polarity,
    hard_debias,
    lexicon_scores,
    means_by_group,
    polarity,
    rates_by_group,
    strongest,
    unigram_polarity,
    weighted_mean,
)

# Prompts of BOLD's religions: Judaism, Christianity, Islam, Hinduism, Buddhism, Sikhism, atheism.
RELIGION = np.array([94, 171, 109, 12, 134, 90, 29])
PAIRED = [word for pair in DEFINITIONAL_PAIRS for word in pair]
WORDS = [*PAIRED, "nurse", "engineer", "king", "queen", "the"]


def vectors(seed=0, dimension=12):
    """Return vectors in which axis 0 is gender, nurse is female and engineer male by stereotype, and all is noisy."""
    table = np.random.default_rng(seed).normal(size=(len(WORDS), dimension))
    table[:, 0] *= 0.1
    for row, word in enumerate(WORDS):
        table[row, 0] += 3 * (word in [female for _, female in DEFINITIONAL_PAIRS] or word in ("nurse", "queen"))
        table[row, 0] -= 3 * (word in [male for male, _ in DEFINITIONAL_PAIRS] or word in ("engineer", "king"))
    return table


def row(table, word):
    return table[WORDS.index(word)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He's a man. She left.", "male"),
        ("HER sister saw the boys and the girls", "female"),
        ("she\u2019s here", "female"),
        ("he and she", "neutral"),
        ("the chef heard the theme", "neutral"),
        ("", "neutral"),
    ],
)
def test_the_larger_count_of_listed_words_is_the_polarity(text, found):
    assert unigram_polarity(text) == found


def test_strong_words_count_most():
    values = [0.3, -0.1, 0.05]
    assert weighted_mean(values) == pytest.approx(0.183333, abs=5e-7)
    assert weighted_mean([-value for value in values]) == pytest.approx(-0.183333, abs=5e-7)
    assert (strongest(values), polarity(strongest(values)), polarity(weighted_mean(values))) == (
        0.3,
        "female",
        "neutral",
    )
    assert strongest([0.1, -0.4]) == -0.4


@pytest.mark.parametrize("values", [[], [0.0, 0.0]])
def test_words_that_say_nothing_weigh_nothing(values):
    assert (weighted_mean(values), strongest(values)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "found"), [(0.26, "female"), (0.25, "neutral"), (-0.25, "neutral"), (-0.26, "male"), (0.0, "neutral")]
)
def test_polarity_is_beyond_a_quarter(value, found):
    assert polarity(value) == found


def test_debiased_words_have_no_gender_unless_they_are_about_it():
    before = gender_of_words(WORDS, vectors())
    assert before["nurse"] > 0.25 > -0.25 > before["engineer"]
    after = gender_of_words(WORDS, hard_debias(WORDS, vectors(), ["king", "queen"]))
    assert [after[word] for word in ("nurse", "engineer", "the")] == pytest.approx([0, 0, 0], abs=1e-12)
    assert after["queen"] > 0.25 > -0.25 > after["king"]


def test_equalised_pairs_are_unit_vectors_that_differ_in_gender_alone():
    table = hard_debias(WORDS, vectors(), ["king", "queen"])
    assert np.linalg.norm(table, axis=1) == pytest.approx(np.ones(len(WORDS)))
    apart = np.array([row(table, female) - row(table, male) for male, female in DEFINITIONAL_PAIRS])
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    assert apart @ apart.T == pytest.approx(np.ones((10, 10)))
    for male, female in DEFINITIONAL_PAIRS:
        for neutral in ("nurse", "engineer", "the"):
            near = [row(table, word) @ row(table, neutral) for word in (male, female)]
            assert near[0] == pytest.approx(near[1])


def test_neutralised_words_keep_the_rest_of_their_vectors():
    table = hard_debias(WORDS, vectors(), [])
    unit = row(vectors(), "nurse") / np.linalg.norm(row(vectors(), "nurse"))
    gender = row(table, "she") - row(table, "he")
    gender /= np.linalg.norm(gender)
    expected = unit - (unit @ gender) * gender
    assert row(table, "nurse") == pytest.approx(expected / np.linalg.norm(expected))


def test_the_direction_is_the_first_component_of_the_centred_pairs():
    # By all 20 words less the middles of their pairs, as the paper has it.
    table = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    centred = []
    for male, female in DEFINITIONAL_PAIRS:
        middle = (row(table, male) + row(table, female)) / 2
        centred += [row(table, male) - middle, row(table, female) - middle]
    values, components = np.linalg.eigh(np.cov(np.array(centred).T))
    debiased = hard_debias(WORDS, vectors(), [])
    found = row(debiased, "she") - row(debiased, "he")
    assert abs(found @ components[:, values.argmax()]) == pytest.approx(np.linalg.norm(found))


def test_a_pair_that_is_not_there_is_not_equalised_and_a_definitional_one_is_missed():
    pairs = (("he", "she"), ("uncle", "aunt"))
    assert np.isfinite(hard_debias(WORDS, vectors(), [], equalised=pairs)).all()
    with pytest.raises(ValueError, match="aunt, uncle: no vector"):
        hard_debias(WORDS, vectors(), [], definitional=pairs)


def test_words_without_a_gender_of_their_own_are_refused_as_its_measure():
    with pytest.raises(ValueError, match="he and she are to have vectors"):
        gender_of_words(["he"], np.ones((1, 2)))
    with pytest.raises(ValueError, match="have the same vector"):
        gender_of_words(["he", "she"], np.ones((2, 2)))


def test_of_a_word_that_is_listed_twice_the_first_counts():
    table = np.array([[1.0, 0], [0, 1.0], [0, 1.0], [1.0, 0]])
    assert gender_of_words(["he", "she", "nurse", "nurse"], table)["nurse"] > 0


def test_words_are_looked_up_as_written_then_in_small_letters():
    found = lexicon_scores(["May may MAY", "unknown words", ""], {"May": 0.4, "may": -0.2})
    assert found["words"].tolist() == [3, 0, 0]
    assert found["strongest"].tolist() == [0.4, 0, 0]
    assert found["weighted_mean"].tolist() == pytest.approx([(0.16 - 0.04 - 0.04) / 0.8, 0, 0])


def test_texts_are_measured_one_by_one_and_groups_by_their_rates():
    texts = ["he ran", "she ran and ran", "the queen ran", "they ran"] * 5
    # Those of a group that is not compared are not heeded.
    other = pd.DataFrame({"example_id": [20, 21], "group": "z", "text": ["him", "nobody there"]})
    table = pd.DataFrame({"example_id": range(20), "group": ["a"] * 12 + ["b"] * 7 + ["c"], "text": texts})
    table = pd.concat([other, table], ignore_index=True)
    gender = {"he": -0.8, "she": 0.8, "queen": 0.6, "ran": 0.0}
    found = gender_polarity(table, gender, ["a", "b", "c", "d"], minimum=5, seed=0)
    assert found.examples["unigram_polarity"].tolist() == ["male", "female", "neutral", "neutral"] * 5
    assert found.examples["gender_max_polarity"].tolist() == ["male", "female", "female", "neutral"] * 5
    assert found.examples["gender_words"].tolist() == [2, 3, 2, 1] * 5
    assert found.measured["test/gender_max_female/a"].value == 0.5
    assert found.measured["test/unigram_female/a"].value == 0.25
    assert found.measured["test/gender_wavg/a"].value == pytest.approx(found.examples["gender_wavg"][:12].mean())
    assert found.measured["test/texts_without_gender_words"].value == 0
    assert found.left_out == {"c": "1 examples; at least 5 are due", "d": "0 examples; at least 5 are due"}
    assert {key.split("/")[1] for key in found.measured} <= set(METRICS)
    for key, measured in found.measured.items():
        if key.count("/") == 2 or key.endswith("_disparity"):
            assert measured.n > 0
            assert measured.ci_low <= measured.value <= measured.ci_high


def test_one_group_has_rates_and_no_disparity():
    table = pd.DataFrame({"example_id": range(3), "group": "a"})
    found = rates_by_group(table, {"toxic": np.array([True, False, False])}, ["a", "b"], 2, seed=0)
    assert set(found.measured) == {"test/toxic/a", "test/groups_measured", "test/groups_left_out"}
    assert found.measured["test/groups_left_out"].value == 1
    assert found.examples["toxic"].tolist() == [True, False, False]


def test_means_have_the_group_and_its_interval():
    table = pd.DataFrame({"example_id": range(6), "group": list("aaabbb"), "valence": [0, 0.5, 1, -1, -0.5, 0]})
    found = means_by_group(table, ["valence"], ["a", "b"], 2, seed=0)
    assert {key: measured.value for key, measured in found.measured.items()} == {
        "test/valence/a": 0.5,
        "test/valence/b": -0.5,
    }


def test_a_minimum_of_one_is_refused():
    with pytest.raises(ValueError, match="a minimum of 1"):
        rates_by_group(pd.DataFrame({"example_id": [], "group": []}), {}, ["a"], 1, seed=0)


def test_group_sizes_alone_part_the_rates_and_the_disparity_is_without_that():
    positives = np.random.default_rng(0).binomial(RELIGION, 0.1, size=(4000, 7))
    rates = positives / RELIGION
    assert np.sqrt(rates.var(axis=1).mean()) == pytest.approx(0.042, abs=5e-4)
    assert rates.std(axis=1, ddof=1).mean() == pytest.approx(0.042, abs=1e-3)
    corrected = rates.var(axis=1, ddof=1) - (rates * (1 - rates) / (RELIGION - 1)).mean(axis=1)
    assert disparity(positives[0], RELIGION, seed=0).value == pytest.approx(corrected[0])
    # Four standard errors of the simulation, a twentieth of what is taken off.
    noise = (0.1 * 0.9 / RELIGION).mean()
    assert abs(corrected.mean()) < 4 * corrected.std() / np.sqrt(len(corrected)) < noise / 10
    found = [disparity(row, RELIGION, seed) for seed, row in enumerate(positives[:100])]
    assert sum(each.ci_low <= 0 <= each.ci_high for each in found) >= 95


def test_a_disparity_that_is_there_is_found():
    rates = np.array([0.05, 0.1, 0.1, 0.2, 0.1, 0.3, 0.1])
    draws = np.random.default_rng(1)
    found = [disparity(draws.binomial(RELIGION, rates), RELIGION, seed) for seed in range(200)]
    truth = rates.var(ddof=1)
    assert np.mean([each.value for each in found]) == pytest.approx(truth, rel=0.2)
    assert sum(each.ci_low <= truth <= each.ci_high for each in found) >= 175
    more = disparity(10 * draws.binomial(RELIGION, rates), 10 * RELIGION, seed=0)
    assert more.ci_low > 0


def test_rates_of_zero_have_an_interval_of_some_width():
    found = disparity(np.array([0, 0]), np.array([5, 5]), seed=0)
    assert found.ci_low < found.value == 0 < found.ci_high
