"""Each test against another implementation of it, and its false findings against its level."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_paired

from stages.results.statistics import (
    equivalence_test,
    holm,
    mean_test,
    paired_test,
    resolution,
    rounding_interval,
    sign_flip_test,
    welch_test,
)

SIMULATIONS = 2000
LEFT = np.array([0.81, 0.79, 0.84, 0.80, 0.86, 0.77])
RIGHT = np.array([0.78, 0.80, 0.79, 0.76, 0.83, 0.77])


def test_the_mean_is_tested_as_statsmodels_does():
    peer = DescrStatsW(LEFT)
    found = mean_test(LEFT, centre=0.8)
    assert found.p == pytest.approx(peer.ttest_mean(0.8)[1])
    assert (found.low, found.high) == pytest.approx(peer.tconfint_mean())
    assert found.n == 6


def test_three_values_by_hand():
    # Mean 2, standard deviation 1, t(.975, 2) = 4.302653.
    found = mean_test([1.0, 2.0, 3.0])
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_pairs_are_tested_as_their_differences_are():
    found, peer = paired_test(LEFT, RIGHT), stats.ttest_rel(LEFT, RIGHT)
    assert found.p == pytest.approx(peer.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(peer.confidence_interval()))


def test_signs_are_flipped_as_scipy_permutes_them():
    peer = stats.permutation_test(
        (LEFT, RIGHT),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip_test(LEFT, RIGHT).p == pytest.approx(peer.pvalue)


@pytest.mark.parametrize(("n", "smallest"), [(3, 0.25), (5, 0.0625), (10, 2 / 1024)])
def test_the_smallest_p_of_a_sign_flip_is_said_and_reached(n, smallest):
    found = sign_flip_test(np.arange(1.0, n + 1), np.zeros(n))
    assert (found.p, found.smallest_p) == (smallest, smallest)


def test_too_many_signs_are_refused():
    with pytest.raises(ValueError, match="21 pairs have too many sums"):
        sign_flip_test(2.0 ** np.arange(21), np.zeros(21))


def test_a_sign_flip_of_trials_is_the_exact_test_of_mcnemar():
    left, right = np.array([1.0] * 12 + [0.0] * 18), np.array([0.0] * 10 + [1.0] * 5 + [0.0] * 15)
    assert sign_flip_test(left, right).p == pytest.approx(stats.binomtest(10, 13).pvalue)


def test_welch_is_that_of_statsmodels():
    def described(sample):
        return float(sample.mean()), float(sample.std(ddof=1)), len(sample)

    found = welch_test(described(LEFT), described(RIGHT[:4]))
    peer = CompareMeans(DescrStatsW(LEFT), DescrStatsW(RIGHT[:4]))
    assert found.p == pytest.approx(peer.ttest_ind(usevar="unequal")[1])
    assert (found.low, found.high) == pytest.approx(peer.tconfint_diff(usevar="unequal"))
    assert found.n == 4


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.08])
def test_equivalence_is_that_of_statsmodels_and_its_interval_says_the_same(margin):
    found = equivalence_test(LEFT, RIGHT, margin)
    assert found.p == pytest.approx(ttost_paired(LEFT, RIGHT, -margin, margin)[0])
    assert (found.p < 0.05) == (-margin < found.low and found.high < margin)


@pytest.fixture(scope="module")
def quick_collection():
    """Statsmodels collects garbage at every call, over all objects that the tests before have left: up to a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collection")
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_what_was_rounded_lies_between():
    assert rounding_interval(0.83, 2) == pytest.approx((0.825, 0.835))
    assert rounding_interval(130, 0) == pytest.approx((129.5, 130.5))


@pytest.mark.parametrize("test", [paired_test, sign_flip_test])
def test_equal_sides_do_not_differ(test):
    found = test([0.1, 0.7, 0.3], [0.1, 0.7, 0.3])
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_same_difference_in_every_pair_is_certain_to_a_t_test_and_not_to_a_sign_flip():
    left, right = [0.5, 0.75, 0.25], [0.25, 0.5, 0.0]
    assert paired_test(left, right).p == 0
    assert sign_flip_test(left, right).p == 0.25
    assert equivalence_test(left, right, margin=0.3).p == 0
    assert equivalence_test(left, right, margin=0.25).p == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_test([1.0]), "1 values have no spread"),
        (lambda: paired_test([1.0, 2.0], [1.0]), "two sides of the same length"),
        (lambda: welch_test((0, 1, 1), (0, 1, 3)), "1 values have no spread"),
        (lambda: equivalence_test([1.0, 2.0], [1.0, 2.0], margin=0), "a margin is above 0"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def drawn(effect, n, seed):
    """Return SIMULATIONS x n pairs whose differences are normal with a mean of `effect` standard deviations."""
    draws = np.random.default_rng([seed, n])
    common = draws.normal(size=(SIMULATIONS, n))
    return common + draws.normal(effect, 1, size=(SIMULATIONS, n)), common


def share(test, effect, n, level=0.05, seed=0):
    left, right = drawn(effect, n, seed)
    return np.mean([test(one, other).p < level for one, other in zip(left, right, strict=True)])


@pytest.mark.parametrize("n", [3, 10])
def test_false_findings_of_the_paired_t_test_are_at_its_level(n):
    # The standard error of a share of .05 in 2,000 is .005.
    assert share(paired_test, 0.0, n) == pytest.approx(0.05, abs=0.015)


def test_false_findings_of_the_sign_flip_test_are_at_its_level_and_never_with_five_pairs():
    assert share(sign_flip_test, 0.0, 10) == pytest.approx(0.05, abs=0.015)
    assert share(sign_flip_test, 3.0, 5) == 0


def test_false_findings_of_equivalence_are_at_most_at_its_level():
    # The truth lies at the margin: to call that equal is the error.
    assert share(lambda one, other: equivalence_test(one, other, margin=1.0), 1.0, 10) == pytest.approx(0.05, abs=0.015)


def test_false_findings_of_a_family_are_at_the_level_after_holm():
    left, right = drawn(0.0, 5, seed=7)
    raw = np.array([paired_test(one, other).p for one, other in zip(left, right, strict=True)]).reshape(-1, 20)
    assert np.mean((raw < 0.05).any(axis=1)) > 0.5
    assert np.mean([(holm(family) < 0.05).any() for family in raw]) <= 0.12


def test_power_grows_with_the_effect_and_the_pairs(capsys):
    power = {(effect, n): share(paired_test, effect, n) for effect in (1.0, 2.0) for n in (3, 5, 10)}
    with capsys.disabled():
        said = ", ".join(f"{effect:g} sd with n={n}: {p:.2f}" for (effect, n), p in power.items())
        print(f"\npower of the paired t test: {said}")
    assert power[2.0, 3] < power[2.0, 5] < power[2.0, 10]
    assert power[1.0, 10] < power[2.0, 10]
    assert power[2.0, 10] > 0.95


def test_shares_of_few_examples_are_found_to_differ_no_more_often_than_the_level():
    """Sixty shares of 184 examples, of which ten come out at random, over three seeds: Holm over all sixty."""
    generator = np.random.default_rng(0)
    alarms, alarms_without = 0, 0
    for _ in range(200):
        moved = (2 * generator.binomial(10, 0.5, size=(60, 3)) - 10) / 184
        moved = moved[moved.any(axis=1)]
        found = [paired_test(each, np.zeros(3), least_deviation=resolution(184)).p for each in moved]
        without = [paired_test(each, np.zeros(3)).p for each in moved]
        alarms += bool((holm(found) < 0.05).any())
        alarms_without += bool((holm(without) < 0.05).any())
    assert alarms / 200 <= 0.065
    # What the least deviation is for.
    assert alarms_without / 200 > 0.5


def test_the_least_deviation_counts_where_the_values_have_less():
    found = mean_test([0.1, 0.1, 0.1], least_deviation=0.05)
    assert (found.low, found.high) == pytest.approx((0.1 - 4.302653 * 0.05 / 3**0.5, 0.1 + 4.302653 * 0.05 / 3**0.5))
    assert mean_test(LEFT, least_deviation=1e-3) == mean_test(LEFT)
    assert equivalence_test([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 0.01, least_deviation=0.05).p > 0.05
    assert equivalence_test([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 0.01).p == 0
