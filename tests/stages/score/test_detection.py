import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from stages.score.areas import area
from stages.score.detection import area_gain, correlation, correlation_gain, rank_correlation


def drawn(seed, n=40, better=1.0):
    """Scores of n examples, of which some are true, and other scores that know less."""
    draws = np.random.default_rng(seed)
    truth = draws.random(n) < 0.4
    truth[:2] = True, False
    return draws.normal(size=n) + better * truth, np.round(draws.normal(size=n) + truth / 2, 1), truth


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_values_are_those_of_scikit_learn_and_scipy(seed):
    scores, others, truth = drawn(seed)
    first, second = (roc_auc_score(truth, each) for each in (scores, others))
    assert area(scores[truth], scores[~truth]).value == pytest.approx(first)
    assert area_gain(scores, others, truth, 0).value == pytest.approx(first - second)
    of_scores, of_others = (pearsonr(each, truth).statistic for each in (scores, others))
    assert correlation(scores, truth, 0).value == pytest.approx(of_scores)
    assert correlation_gain(scores, others, truth, 0).value == pytest.approx(of_scores - of_others)
    assert rank_correlation(scores, others, 0).value == pytest.approx(spearmanr(scores, others).statistic)


def test_a_replicate_has_the_examples_that_were_drawn():
    """Against a plain bootstrap that gathers them, of its own draws."""
    scores, others, truth = drawn(1, n=200)
    found = area_gain(scores, others, truth, 0)
    draws = np.random.default_rng(5)
    replicates = []
    for _ in range(1000):
        rows = np.concatenate([draws.choice(np.flatnonzero(side), side.sum()) for side in (truth, ~truth)])
        replicates.append(roc_auc_score(truth[rows], scores[rows]) - roc_auc_score(truth[rows], others[rows]))
    low, high = np.percentile(replicates, [2.5, 97.5])
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=0.015)
    assert found.n == 200


def test_intervals_hold_what_is_true_about_as_often_as_they_say():
    held = 0
    for seed in range(200):
        scores, _, truth = drawn(seed, n=80)
        draws = np.random.default_rng(1000 + seed)
        # Two scores that know as much as each other.
        gain = area_gain(scores, draws.normal(size=80) + truth, truth, seed)
        held += gain.ci_low <= 0 <= gain.ci_high
    assert 180 <= held <= 199


def test_a_score_gains_nothing_on_itself_and_a_constant_tells_nothing():
    scores, _, truth = drawn(3)
    for gain in (area_gain, correlation_gain):
        same = gain(scores, scores, truth, 0)
        assert (same.value, same.ci_low, same.ci_high) == pytest.approx((0, 0, 0), abs=1e-12)
    constant = np.zeros(len(truth))
    assert area(constant[truth], constant[~truth]).value == 0.5
    assert correlation(constant, truth, 0) is None
    assert rank_correlation(scores, constant, 0) is None
    assert area_gain(scores, constant, truth, 0).value == pytest.approx(area(scores[truth], scores[~truth]).value - 0.5)
    of_all = correlation_gain(scores, constant, truth, 0)
    assert of_all.value == pytest.approx(correlation(scores, truth, 0).value)


def test_where_a_score_is_right_of_every_example_there_is_no_interval():
    found = area(np.ones(10), np.zeros(20))
    assert (found.value, found.ci_low, found.ci_high) == (1, None, None)
