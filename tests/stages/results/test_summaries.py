import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from stages.results.long_table import COLUMNS
from stages.results.summaries import headline, summarise, t_interval


def long(values: list[float], **columns: object) -> pd.DataFrame:
    base = {"study": "s", "verb": "train", "cell": "c", "split": "test", "metric": "accuracy", "unit": "fraction"}
    rows = [base | {"seed": seed, "value": value} | columns for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def test_t_interval_of_three_values_worked_by_hand() -> None:
    # 0.78, 0.80, 0.82: mean 0.80, deviation 0.02, t(2 degrees, 97.5%) = 4.302653; 4.302653 * 0.02 / sqrt(3) = 0.049683
    summary = summarise(long([0.78, 0.80, 0.82])).iloc[0]

    assert summary["mean"] == pytest.approx(0.80)
    assert summary["ci_low"] == pytest.approx(0.750317, abs=1e-6)
    assert summary["ci_high"] == pytest.approx(0.849683, abs=1e-6)
    assert summary["seeds"] == 3


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_t_interval_agrees_with_scipy(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=seeds)

    low, high = t_interval(np.array([values.mean()]), np.array([values.std(ddof=1)]), np.array([seeds]))

    assert (low[0], high[0]) == pytest.approx(stats.t.interval(0.95, seeds - 1, values.mean(), stats.sem(values)))


def test_one_seed_has_no_interval_over_seeds() -> None:
    summary = summarise(long([0.5], n=100, ci_low=0.4, ci_high=0.6)).iloc[0]

    assert math.isnan(summary["ci_low"])
    assert math.isnan(summary["ci_high"])
    assert summary["seeds"] == 1
    assert summary["sampling_half_width"] == pytest.approx(0.1)


def test_equal_values_have_an_interval_without_width() -> None:
    summary = summarise(long([0.1, 0.1, 0.1])).iloc[0]

    assert summary["mean"] == summary["ci_low"] == summary["ci_high"] == 0.1


def test_seeds_that_are_trials_have_the_score_interval() -> None:
    for values, low, high in (
        ([1.0] * 5 + [0.0] * 5, 0.2366, 0.7634),
        ([0.0] * 30, 0.0, 0.1135),
        ([1.0, 1.0], 0.3424, 1),
    ):
        summary = summarise(long(values, n=1)).iloc[0]

        assert (summary["ci_low"], summary["ci_high"]) == pytest.approx((low, high), abs=1e-4)
        assert proportion_confint(sum(values), len(values), method="wilson") == pytest.approx((low, high), abs=1e-4)

    assert math.isnan(summarise(long([1.0], n=1)).iloc[0]["ci_low"])


def test_the_two_intervals_are_kept_apart() -> None:
    table = pd.concat([long([0.5], n=100, ci_low=0.4, ci_high=0.6), long([0.5], n=300, ci_low=0.45, ci_high=0.55)])

    summary = summarise(table).iloc[0]

    assert summary["ci_low"] == summary["ci_high"]
    assert summary["sampling_half_width"] == pytest.approx(0.075)
    assert summary["n"] == 200


def test_cells_and_groups_are_summarised_apart() -> None:
    table = pd.concat([long([0.1, 0.3], group="vowels"), long([0.5, 0.7], group="consonants"), long([0.9, 0.9])])

    summary = summarise(table)

    assert summary["mean"].tolist() == pytest.approx([0.2, 0.6, 0.9])


def test_the_headline_is_over_all_groups_and_on_the_test_split() -> None:
    table = pd.concat([long([0.1], split="valid"), long([0.2]), long([0.3], group="vowels")])

    assert headline(summarise(table), "accuracy")["mean"].tolist() == [0.2]
    assert headline(summarise(table[table["split"] == "valid"]), "accuracy")["mean"].tolist() == [0.1]
    assert headline(summarise(table), "auc").empty


def test_no_success_has_an_interval_that_begins_at_nothing() -> None:
    for trials in range(2, 40):
        low, high = (summarise(long([share] * trials, n=1)).iloc[0] for share in (0.0, 1.0))
        assert (low["ci_low"], high["ci_high"]) == (0.0, 1.0)


@pytest.mark.parametrize("unit", ["epsilon", "bits"])
def test_what_cannot_be_below_nothing_has_no_interval_that_is(unit: str) -> None:
    assert summarise(long([0.0, 0.1, 3.0], unit=unit)).iloc[0]["ci_low"] == 0.0
    assert summarise(long([0.0, 0.1, 3.0], unit="nats")).iloc[0]["ci_low"] < 0.0
