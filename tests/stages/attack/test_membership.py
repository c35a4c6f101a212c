import numpy as np
import pandas as pd
import pytest

from stages.attack.membership import epsilon_from_rates, estimated_epsilon, measure, measure_pooled, roc_points


def scored(members, nonmembers, **more):
    member = np.repeat([True, False], [len(members), len(nonmembers)])
    order = np.random.default_rng(0).permutation(len(member))
    columns = {"seed": 0, "example_id": [f"e{row}" for row in range(len(member))], "member": member}
    return pd.DataFrame(columns | {"loss": np.concatenate([members, nonmembers])} | more).iloc[order]


def test_a_higher_score_counts_as_a_guess_of_member():
    measured = measure(scored(np.arange(200.0) + 1000, np.arange(200.0)), ["loss"])
    assert measured["pool/auc"].value == 1
    assert measured["pool/true_positive_rate_at_1_percent"].value == 1


def test_a_method_stands_before_its_metrics_and_a_part_after():
    noise = np.random.default_rng(0).normal(size=400)
    scores = scored(noise[:200], noise[200:], lira=noise, **{"lira/tags": noise})
    assert set(measure(scores, ["loss", "lira"])) == {
        "pool/auc",
        "pool/true_positive_rate_at_1_percent",
        "pool/lira_auc",
        "pool/lira_true_positive_rate_at_1_percent",
        "pool/lira_auc/tags",
    }


def test_one_in_a_thousand_is_measured_from_ten_thousand_nonmembers_on():
    draws = np.random.default_rng(0)
    enough = scored(draws.normal(1.0, size=10_000), draws.normal(size=10_000))
    assert set(measure_pooled(enough, ["loss"], 0)) == {"pooled/true_positive_rate_at_0_1_percent"}
    assert measure_pooled(enough.drop(enough[~enough["member"]].index[0]), ["loss"], 0) == {}


def test_the_pooled_rate_is_that_of_the_gaussians_and_its_interval_holds_it():
    draws = np.random.default_rng(0)
    found = measure_pooled(scored(draws.normal(1.0, size=20_000), draws.normal(size=20_000)), ["loss"], 0)
    rate = found["pooled/true_positive_rate_at_0_1_percent"]
    # P(N(1, 1) > 3.0902), the upper 0.1% point of N(0, 1)
    assert rate.ci_low < 0.01829 < rate.ci_high
    assert rate.ci_high - rate.ci_low < 0.02
    assert rate.n == 20_000


def test_an_example_scored_under_every_seed_is_drawn_as_one():
    draws = np.random.default_rng(0)
    once = scored(draws.normal(1.0, size=4_000), draws.normal(size=4_000))
    # Said three times, the same examples know no more.
    three = pd.concat([once.assign(seed=seed) for seed in range(3)])
    name = "pooled/true_positive_rate_at_0_1_percent"
    wide = measure_pooled(three, ["loss"], 0)[name]
    apart = pd.concat([once.assign(example_id=once["example_id"] + str(seed)) for seed in range(3)])
    narrow = measure_pooled(apart, ["loss"], 0)[name]
    assert wide.value == narrow.value
    assert wide.ci_high - wide.ci_low > 1.3 * (narrow.ci_high - narrow.ci_low)


def test_rates_speak_for_an_epsilon_below_that_of_the_mechanism_and_never_one_above():
    # Randomised response with epsilon 2: its log likelihood ratios are 2 and -2.
    draws, keep = np.random.default_rng(0), 1 / (1 + np.exp(-2))
    first, second = (
        scored((draws.random(5_000) < keep).astype(float), (draws.random(5_000) > keep).astype(float)) for _ in "ab"
    )
    assert 1.7 < estimated_epsilon(first, second, "loss", 0.0).value <= 2


def test_a_bound_by_rates_is_on_the_safe_side_as_often_as_it_says():
    draws, keep = np.random.default_rng(0), 1 / (1 + np.exp(-1))
    hits, alarms = draws.binomial(300, keep, 2_000), draws.binomial(300, 1 - keep, 2_000)
    above = epsilon_from_rates(hits, 300, alarms, 300, 0.0) > 1
    assert above.mean() <= 0.05


def test_the_threshold_is_set_on_the_other_seed():
    noise = np.random.default_rng(0).normal(size=(2, 400))
    # On its own scores the best threshold always refutes something; on others' it must not.
    found = [
        estimated_epsilon(scored(a[:200], a[200:]), scored(b[:200], b[200:]), "loss", 0.0)
        for a, b in (noise, noise[::-1])
    ]
    assert [measured.value for measured in found] == [0.0, 0.0]


def test_the_curve_of_each_method_begins_and_ends_where_a_roc_does():
    noise = np.random.default_rng(0).normal(size=400)
    points = roc_points(scored(noise[:200], noise[200:], lira=-noise), ["loss", "lira"])
    for _, curve in points.groupby("method"):
        assert curve[["false_positive_rate", "true_positive_rate"]].iloc[-1].tolist() == [1.0, 1.0]
    assert points["method"].unique().tolist() == ["loss", "lira"]


def test_a_perfect_attack_on_6500_of_each_speaks_for_7_47():
    bound = epsilon_from_rates(np.array([6500]), 6500, np.array([0]), 6500, 0.0)
    assert bound[0] == pytest.approx(7.47, abs=0.005)
