import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_curve

from stages.attack import roc


def drawn(seed, members=150, nonmembers=120, shift=0.7, ties=True):
    """Return scores of members and of non-members; members score higher by `shift` in the mean."""
    draws = np.random.default_rng(seed)
    scores = draws.normal(shift, 1, members), draws.normal(0, 1, nonmembers)
    return tuple(np.round(some, 1) if ties else some for some in scores)


def truth_and_scores(members, nonmembers):
    return np.repeat([1, 0], [len(members), len(nonmembers)]), np.concatenate([members, nonmembers])


few_scores = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30).map(np.array)


@given(few_scores, few_scores)
@settings(deadline=None, max_examples=60)
def test_the_curve_is_scikit_learns_with_ties(members, nonmembers):
    false, true = roc.curve(members, nonmembers)
    expected_false, expected_true, _ = roc_curve(*truth_and_scores(members, nonmembers), drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false, atol=1e-12)
    np.testing.assert_allclose(true, expected_true, atol=1e-12)


def test_a_perfect_attack_finds_every_member():
    members, nonmembers = np.arange(10.0) + 100, np.arange(20.0)
    assert roc.true_positive_rate(members, nonmembers, 0.01).value == 1


def test_a_useless_attack_finds_no_member():
    same = np.zeros(50)
    assert roc.true_positive_rate(same, same, 0.01).value == 0


@given(few_scores, few_scores, st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 0.999, 1.0]))
@settings(deadline=None, max_examples=100)
def test_the_rate_is_the_best_that_allows_no_more_false_positives(members, nonmembers, allowed):
    found = roc.true_positive_rate(members, nonmembers, allowed).value
    rates = [
        np.mean(members > threshold)
        for threshold in [-np.inf, *nonmembers, *members]
        if np.sum(nonmembers > threshold) <= allowed * len(nonmembers) + 1e-9
    ]
    assert found == pytest.approx(max(rates))


@pytest.mark.parametrize(("nonmembers", "allowed"), [(99, 0), (100, 1), (199, 1), (200, 2), (300, 3)])
def test_one_percent_of_the_nonmembers_is_never_exceeded(nonmembers, allowed):
    others = np.arange(nonmembers, dtype=float)
    # One member just above each non-member: those above the threshold count the false positives.
    assert roc.true_positive_rate(others + 0.5, others, 0.01).value == pytest.approx((allowed + 1) / nonmembers)


def test_the_interval_of_the_rate_is_exact_over_the_members():
    members, nonmembers = drawn(2)
    found = roc.true_positive_rate(members, nonmembers, 0.1)
    exact = stats.binomtest(round(found.value * 150), 150).proportion_ci(0.95, method="exact")
    assert (found.n, found.ci_low, found.ci_high) == (150, pytest.approx(exact.low), pytest.approx(exact.high))


@pytest.mark.parametrize("sizes", [(3, 2), (150, 120), (3000, 4000)], ids=str)
def test_the_thinned_curve_is_part_of_the_true_one(sizes):
    false, true = roc.curve(*drawn(3, *sizes))
    table = roc.thinned(false, true)
    points = set(zip(false, true, strict=True))
    assert set(zip(table["false_positive_rate"], table["true_positive_rate"], strict=True)) <= points


def test_the_thinned_curve_is_short_and_keeps_its_end():
    table = roc.thinned(*roc.curve(*drawn(3, 3000, 4000, ties=False)))
    assert 100 < len(table) <= 2 * roc.POINTS
    assert tuple(table.iloc[-1]) == (1.0, 1.0)


def test_between_its_points_the_thinned_curve_as_steps_lies_below_the_true_one():
    false, true = roc.curve(*drawn(3, 3000, 4000, ties=False))
    table = roc.thinned(false, true)
    at = np.linspace(0, 1, 5000)
    thin = table["true_positive_rate"].to_numpy()[np.searchsorted(table["false_positive_rate"], at, side="right") - 1]
    whole = true[np.searchsorted(false, at, side="right") - 1]
    assert (thin <= whole).all()
    assert (thin >= whole - 0.02).all()
