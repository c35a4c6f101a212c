"""CrowS-Pairs: shares counted by hand, ties, directions, and sentences scored one at a time."""

import pandas as pd
import pytest
import torch
from scipy import stats

from stages.models import files
from stages.score.crows_pairs import crows_pairs_scores, judged, pair_scores, unmodified
from tests.stages.score.one_by_one import log_probabilities_one_by_one

WHOLE, PART = "crows_pairs_stereotype", "crows_pairs_unmodified_stereotype"


def table(*rows):
    """Return the judged table of rows (label, direction, whole stereotype and antistereotype, unmodified likewise)."""
    names = [f"{way}_{name}" for way in ("whole", "unmodified") for name in ("stereotype", "antistereotype")]
    return judged(pd.DataFrame(rows, columns=["label", "direction", *names]))


@pytest.fixture
def measured():
    return crows_pairs_scores(
        table(
            ("age", "stereo", -1.0, -2.0, -3.0, -2.0),
            ("age", "antistereo", -1.0, -2.0, -1.0, -2.0),
            ("age", "stereo", -3.0, -2.0, -1.0, -1.0),
            # Equal to three decimals.
            ("gender", "antistereo", -2.0001, -2.0004, -1.0, -1.0),
        )
    )


def test_the_stereotype_is_the_same_sentence_in_both_directions(measured):
    assert {key: found.value for key, found in measured.items() if key.startswith(f"test/{WHOLE}")} == {
        f"test/{WHOLE}": 2 / 4,
        f"test/{WHOLE}/age": 2 / 3,
        f"test/{WHOLE}/gender": 0,
        f"test/{WHOLE}/stereo": 1 / 2,
        f"test/{WHOLE}/antistereo": 1 / 2,
    }
    assert measured[f"test/{PART}"].value == 1 / 4


def test_ties_are_neutral_and_among_the_pairs_that_a_share_is_of(measured):
    neutral = {key: found.value for key, found in measured.items() if "neutral" in key}
    assert neutral["test/crows_pairs_neutral"] == 1 / 4
    assert neutral["test/crows_pairs_neutral/age"] == 0
    assert neutral["test/crows_pairs_neutral/gender"] == 1
    assert neutral["test/crows_pairs_unmodified_neutral"] == 1 / 2
    assert {key: found.n for key, found in measured.items() if key.endswith("stereotype")} == {
        f"test/{WHOLE}": 4,
        f"test/{PART}": 4,
    }


def test_the_interval_of_a_share_is_the_exact_one(measured):
    exact = stats.binomtest(2, 4).proportion_ci(0.95, method="exact")
    found = measured[f"test/{WHOLE}"]
    assert (found.ci_low, found.ci_high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_tokens_that_both_have_are_found_wherever_something_was_put_in():
    # The first is the mark of a beginning, which no one predicts.
    first, second = unmodified([9, 1, 2, 3, 4], [9, 1, 7, 8, 3, 4])
    assert (first.tolist(), second.tolist()) == ([0, 2, 3], [0, 3, 4])
    assert [places.tolist() for places in unmodified([9, 1], [9, 2])] == [[], []]
    # Of 200 and more a matcher would leave frequent ones out.
    assert len(unmodified([9, *[1, 2] * 150], [9, *[1, 2] * 150])[0]) == 300


def test_scores_are_the_sums_over_the_tokens_of_a_sentence_read_alone(compared, any_model):
    model = files.build(any_model, [], [], seed=0).eval()
    found = pair_scores(model, compared)
    for row, pair in enumerate(compared.itertuples()):
        said = [log_probabilities_one_by_one(model, text) for text in (pair.stereotype, pair.antistereotype)]
        tokens = [model.encode([text]).ids[0].tolist() for text in (pair.stereotype, pair.antistereotype)]
        kept = unmodified(*tokens)
        expected = [sum(each) for each in said]
        expected += [sum(each[place] for place in places) for each, places in zip(said, kept, strict=True)]
        assert found.iloc[row].tolist() == pytest.approx(expected, abs=1e-5, rel=1e-6)


def test_a_model_that_finds_all_alike_likely_is_neutral(compared, byte_settings):
    model = files.build(byte_settings.model_copy(update={"max_length": 64}), [], [], seed=0).eval()
    with torch.no_grad():
        model.network.lm_head.weight.zero_()
    swapped = compared.assign(antistereotype=[text[::-1] for text in compared["stereotype"]])
    found = crows_pairs_scores(judged(compared[["label", "direction"]].join(pair_scores(model, swapped))))
    assert found["test/crows_pairs_neutral"].value == found["test/crows_pairs_unmodified_neutral"].value == 1
    assert found[f"test/{WHOLE}"].value == 0
