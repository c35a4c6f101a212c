import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.score.groups import gap, group_rates

TRUE, FALSE = "test/true_positive_rate", "test/false_positive_rate"


def table(**groups):
    """Return the table of groups, each given as (label, predicted, how often)."""
    rows = [
        {"group": group, "label": label, "predicted": predicted}
        for group, counts in groups.items()
        for label, predicted, count in counts
        for _ in range(count)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def measured():
    both = table(
        north=[("yes", "yes", 6), ("yes", "no", 2), ("no", "yes", 1), ("no", "no", 3), ("other", "no", 1)],
        south=[("yes", "yes", 5), ("yes", "no", 5), ("no", "yes", 2), ("other", "yes", 1), ("other", "other", 7)],
    )
    return group_rates(both, "yes", seed=0)


def test_rates_are_those_counted_by_hand(measured):
    assert {key: found.value for key, found in measured.items() if not key.endswith("gap")} == {
        f"{TRUE}/north": 6 / 8,
        f"{TRUE}/south": 5 / 10,
        f"{FALSE}/north": 1 / 5,
        f"{FALSE}/south": 3 / 10,
    }


def test_each_rate_rests_on_its_own_class_of_its_own_group(measured):
    assert {key: found.n for key, found in measured.items()} == {
        f"{TRUE}/north": 8,
        f"{TRUE}/south": 10,
        f"{TRUE}_gap": 18,
        f"{FALSE}/north": 5,
        f"{FALSE}/south": 10,
        f"{FALSE}_gap": 15,
    }


def test_the_interval_of_a_rate_is_the_exact_one(measured):
    exact = stats.binomtest(6, 8).proportion_ci(0.95, method="exact")
    found = measured[f"{TRUE}/north"]
    assert (found.ci_low, found.ci_high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_the_gap_is_the_widest_between_two_groups(measured):
    assert measured[f"{TRUE}_gap"].value == pytest.approx(6 / 8 - 5 / 10)
    assert measured[f"{FALSE}_gap"].value == pytest.approx(3 / 10 - 1 / 5)
    assert gap(np.array([5, 9, 2]), np.array([10, 10, 10]), seed=0).value == pytest.approx(0.7)


def test_a_group_without_positives_has_no_true_positive_rate_and_no_part_in_the_gap():
    found = group_rates(
        table(
            north=[("yes", "yes", 3), ("yes", "no", 1), ("no", "no", 4)],
            south=[("yes", "yes", 1), ("yes", "no", 1), ("no", "no", 4)],
            west=[("no", "yes", 2)],
        ),
        "yes",
        seed=0,
    )
    assert f"{TRUE}/west" not in found
    assert found[f"{TRUE}_gap"].value == pytest.approx(3 / 4 - 1 / 2)
    assert found[f"{FALSE}/west"].value == 1


def test_one_group_alone_has_no_gap():
    assert set(group_rates(table(north=[("yes", "yes", 3), ("no", "no", 4)]), "yes", seed=0)) == {
        f"{TRUE}/north",
        f"{FALSE}/north",
    }


def test_the_interval_of_a_gap_is_seeded():
    counts = np.array([300, 250, 287]), np.array([503, 531, 397])
    assert gap(*counts, seed=1) == gap(*counts, seed=1)
    assert gap(*counts, seed=1) != gap(*counts, seed=2)


@pytest.mark.parametrize(
    ("positives", "sizes"),
    [([10, 10], [20, 20]), ([0, 0], [8, 9]), ([8, 9], [8, 9]), ([0, 9], [9, 9]), ([1, 3], [4, 5])],
)
def test_the_interval_of_a_gap_contains_it_and_is_never_without_width(positives, sizes):
    found = gap(np.array(positives), np.array(sizes), seed=0)
    assert 0 <= found.ci_low <= found.value <= found.ci_high <= 1
    assert found.ci_high - found.ci_low > 0.05


@pytest.mark.parametrize(
    "rates", [(0.5, 0.6), (0.8, 0.85), (0.3, 0.9), (0.5, 0.55, 0.5, 0.52, 0.53), (0.5, 0.5, 0.5, 0.5, 0.7)], ids=str
)
def test_the_interval_of_a_gap_covers_the_true_one(rates):
    draws, sizes = np.random.default_rng(0), np.full(len(rates), 100)
    found = [gap(draws.binomial(sizes, rates), sizes, seed) for seed in range(200)]
    true = max(rates) - min(rates)
    # Binomial(200, 0.95): three standard errors are 0.046.
    assert np.mean([some.ci_low <= true <= some.ci_high for some in found]) >= 0.904


def test_the_interval_of_a_gap_is_not_needlessly_wide():
    # Two groups of a thousand: the normal interval of a difference is +- 0.0438.
    found = gap(np.array([500, 600]), np.array([1000, 1000]), seed=0)
    assert (found.ci_low, found.ci_high) == (pytest.approx(0.1 - 0.0434, abs=0.005), pytest.approx(0.1434, abs=0.005))
