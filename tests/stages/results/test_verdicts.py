"""The decision table, row by row, and how often a verdict is wrong where the truth is known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.results.claims import ClaimsFile
from stages.results.statistics import wilson_interval
from stages.results.verdicts import verdicts
from tests.stages.results.test_claims import CLAIM, NUMBER, PAPER

BOUND = {"kind": "bound", "published": {"value": 130, "decimals": 0}, "direction": "at most", "right": None}
SAME = {"kind": "no difference", "direction": None, "margin": 0.05}
STEPS = np.array([-0.01, 0.0, 0.01, -0.005, 0.005, 0.0, 0.01, -0.01, 0.005, -0.005])


def results(**cells: Any) -> pd.DataFrame:
    rows = [
        {
            "study": "toy",
            "cell": cell,
            "split": "test",
            "metric": "accuracy",
            "group": None,
            "seed": seed,
            "value": v,
            "n": None,
        }
        for cell, values in cells.items()
        for seed, v in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["study", "cell", "split", "metric", "group", "seed", "value", "n"])


def judged(table: pd.DataFrame, *changes: dict[str, Any], profile: str = "full") -> list[Any]:
    claims = [CLAIM | {"id": f"c{number}"} | each for number, each in enumerate(changes)]
    return verdicts("toy", ClaimsFile.model_validate({"paper": PAPER, "claims": claims}), table, profile)


def around(centre: float, n: int = 10, scale: float = 1.0) -> list[float]:
    return list(centre + scale * STEPS[:n])


@pytest.mark.parametrize(
    ("change", "one", "other", "word", "reason"),
    [
        ({}, around(0.8), [0.7] * 10, "reproduced", "greater than 0"),
        ({}, [0.7] * 10, around(0.8), "not reproduced", "the other way round"),
        ({}, around(0.702), [0.7] * 10, "consistent", "lies that way"),
        ({}, around(0.699), [0.7] * 10, "consistent", "no difference is shown"),
        ({"direction": "less"}, [0.7] * 10, around(0.8), "reproduced", "less than 0"),
        ({"test": "sign-flip"}, around(0.8), [0.7] * 10, "reproduced", "greater than 0"),
        ({"test": "sign-flip"}, around(0.8, 5), [0.7] * 5, "not run", "takes 10 shared seeds, not 5"),
        ({}, [0.8], [0.7], "not run", "1 seeds are shared"),
        (SAME, around(0.8), around(0.81, scale=0.5), "reproduced", "less than 0.05"),
        (SAME, around(0.8), [0.6] * 10, "not reproduced", "more than 0.05"),
        (SAME, around(0.8, scale=20), [0.8] * 10, "consistent", "neither shown nor ruled out"),
        (BOUND, around(100), [], "reproduced", "whole interval is at most 130"),
        (BOUND, around(140), [], "not reproduced", "no part of the interval"),
        (BOUND, around(130, scale=100), [], "consistent", "holds 130"),
        (NUMBER, around(0.5), [], "reproduced", "within 0.1"),
        (NUMBER, around(0.9), [], "not reproduced", "more than 0.1"),
        (NUMBER, around(0.5, scale=20), [], "consistent", "intervals meet"),
        (NUMBER, around(0.62, scale=5), [], "consistent", "is not shown"),
        (NUMBER | {"direction": "greater"}, around(0.9), [], "better", "better than reported"),
        (NUMBER | {"direction": "less"}, around(0.9), [], "not reproduced", "more than 0.1"),
        (NUMBER | {"published": {"value": 0.5, "decimals": 1, "sd": 0.02, "n": 5}}, around(0.5), [], "reproduced", ""),
        (NUMBER | {"published": {"value": 0.5, "decimals": 1, "sd": 0.5, "n": 3}}, around(0.6), [], "consistent", ""),
        (NUMBER | {"published": None}, around(0.5), [], "not comparable", "could not be read in any public source"),
        ({"differs": "other data"}, around(0.8), around(0.7), "not comparable", "other data"),
        ({"awaits": "an attack"}, around(0.8), around(0.7), "not run", "not there yet: an attack"),
        ({"metric": "train/accuracy"}, around(0.8), around(0.7), "not run", "no result for train/accuracy of one"),
        ({"profile": "paper"}, around(0.8), around(0.7), "not run", "results of full; it takes paper"),
    ],
)
def test_the_decision_table(change, one, other, word, reason):
    (verdict,) = judged(results(one=one, other=other), change)
    assert (verdict.word, reason in verdict.reason) == (word, True), verdict


def test_smoke_yields_no_verdict():
    (verdict,) = judged(results(one=around(0.8), other=around(0.7)), {"profile": "quick"}, profile="smoke")
    assert verdict.word == "not run"


def test_seeds_that_are_not_shared_do_not_count():
    table = results(one=around(0.8, 5), other=around(0.7, 5))
    table.loc[(table["cell"] == "other") & (table["seed"] > 1), "seed"] += 100
    (verdict,) = judged(table, {})
    assert verdict.n == 2


DIFFERENCES = {"beyond": ["third", "fourth"]}


@pytest.mark.parametrize(
    ("direction", "word", "reason"),
    [
        ("greater", "reproduced", "the difference is greater than 0"),
        ("less", "not reproduced", "the difference is real, and the other way round"),
    ],
)
def test_two_differences_are_compared_by_seed(direction, word, reason):
    """By hand: gains of .3, .4, .5 less gains of .1, .1, .1 are .2, .3, .4; mean .3, sd .1, t = .3 / (.1 / sqrt 3)."""
    table = results(one=[0.7, 0.9, 0.8], other=[0.4, 0.5, 0.3], third=[0.5, 0.6, 0.4], fourth=[0.4, 0.5, 0.3])
    (found,) = judged(table, DIFFERENCES | {"direction": direction})
    assert (found.word, found.n, found.test) == (word, 3, "paired t test")
    assert found.reason == f"{reason}; ours is (one less other) less (third less fourth)"
    # 4.302653 is the quantile of t at .975 with 2 degrees of freedom, where p is 1 - t / sqrt(2 + t^2).
    assert (found.estimate, found.low, found.high) == pytest.approx((0.3, 0.3 - 0.248414, 0.3 + 0.248414), abs=1e-6)
    assert found.p == pytest.approx(1 - 27**0.5 / 29**0.5)


def test_a_gain_in_one_setting_is_no_greater_gain_in_it():
    """One is far above the other, and so is the third above the fourth: between the two gains there is nothing."""
    table = results(one=around(0.8), other=[0.6] * 10, third=[0.7] * 10, fourth=[0.5] * 10)
    plain, beyond = judged(table, {}, DIFFERENCES)
    assert (plain.word, beyond.word) == ("reproduced", "consistent")
    assert "ours is" not in plain.reason


def test_two_differences_have_the_seeds_that_all_four_cells_share():
    table = results(one=around(0.8, 5), other=around(0.7, 5), third=[0.6] * 4, fourth=[0.6] * 3)
    (found,) = judged(table, DIFFERENCES)
    assert found.n == 3
    (found,) = judged(table[(table["cell"] != "fourth") | (table["seed"] == 0)], DIFFERENCES)
    assert (found.word, found.reason) == (
        "not run",
        "1 seeds are shared by one and other and third and fourth; it takes two",
    )


def test_of_two_differences_missing_cells_are_named():
    (found,) = judged(results(one=around(0.8), third=around(0.7)), DIFFERENCES)
    assert (found.word, found.reason) == ("not run", "no result for test/accuracy of other and fourth")


def test_two_differences_may_share_a_cell():
    """By hand: (.8 - .5) - (.7 - .5) and (.9 - .5) - (.7 - .5)."""
    table = results(one=[0.8, 0.9], other=[0.5, 0.5], third=[0.7, 0.7])
    (found,) = judged(table, {"beyond": ["third", "other"]})
    assert found.estimate == pytest.approx(0.15)


def test_few_pairs_are_said_to_be_few():
    one = [0.8, 0.9, 0.7, 0.85, 0.75, 0.8, 0.9, 0.7, 0.85, 0.75]
    (verdict,) = judged(results(one=one, other=[0.8] * 10), {"test": "sign-flip"})
    assert verdict.word == "consistent"
    (verdict,) = judged(results(one=around(0.71, 3), other=[0.7] * 3), {})
    assert (verdict.n, verdict.test) == (3, "paired t test")


def test_a_family_is_judged_together():
    table = results(one=[0.80, 0.79, 0.82, 0.77, 0.81], other=[0.78, 0.77, 0.78, 0.76, 0.77])
    (alone,) = judged(table, {})
    family = judged(table, *({"family": "all"} for _ in range(5)))
    assert alone.word == "reproduced"
    assert {verdict.word for verdict in family} == {"consistent"}
    assert f"alone its p is {alone.p:.2g}, with its family" in family[0].reason
    assert family[0].p == pytest.approx(5 * alone.p)


def test_verdicts_are_wrong_no_more_often_than_they_say():
    """Both cells are equal in truth: neither `reproduced` nor `not reproduced` may come more often than alpha."""
    draws = np.random.default_rng(0).normal(0.7, 0.02, size=(2000, 2, 5))
    words = [judged(results(one=one, other=other), {})[0].word for one, other in draws]
    decided = np.mean([word in ("reproduced", "not reproduced") for word in words])
    assert decided == pytest.approx(0.05, abs=0.015)


def test_the_row_says_what_was_published_or_that_nothing_was():
    table = results(one=around(0.5), other=around(0.7))
    number, ordering = judged(table, NUMBER, {})
    assert (number.published, ordering.published) == ("0.5", "no published number")


def test_a_profile_of_ones_own_judges_nothing():
    table = results(one=around(0.8), other=around(0.7))
    (verdict,) = judged(table, {}, profile="mine")
    assert verdict.word == "not run"
    assert "mine, a profile of one's own" in verdict.reason


def test_the_examples_that_count_are_those_of_the_claim_itself():
    """A share of ten examples is blurred by one of ten, however many another split has."""
    table = results(one=[0.8, 0.8, 0.8], other=[0.7, 0.7, 0.7]).assign(n=10)
    elsewhere = results(one=[0.8, 0.8, 0.8]).assign(n=100_000, split="train")
    (verdict,) = judged(pd.concat([table, elsewhere]), {})
    assert verdict.word == "consistent"
    (exact,) = judged(table.assign(n=None), {})
    assert exact.word == "reproduced"


@pytest.mark.parametrize(
    ("successes", "word"), [(2, "consistent"), (0, "not reproduced"), (9, "reproduced"), (10, "reproduced")]
)
def test_a_share_of_trials_is_judged_by_its_score_interval(successes, word):
    trials = results(one=[1.0] * successes + [0.0] * (10 - successes)).assign(n=1)
    bound = {"kind": "bound", "published": {"value": 0.5, "decimals": 1}, "direction": "at least", "right": None}
    [found] = judged(trials, bound)
    assert (found.word, found.test) == (word, "score interval")
    low, high = wilson_interval(np.array([successes / 10]), np.array([10]))
    assert (found.low, found.high) == (pytest.approx(low[0]), pytest.approx(high[0]))
