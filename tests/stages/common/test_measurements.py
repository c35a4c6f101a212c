import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from stages.common import measurements
from stages.common.measurements import About, Measurement, macro_f1, proportion

ABOUT = About("letters", "private", "train", "model", "python -m stages.train", "ab" * 32)


def labels_and_guesses(seed=0, n=300, labels=6, right=0.6):
    draws = np.random.default_rng(seed)
    truth = draws.choice(labels, n, p=np.arange(1, labels + 1) / np.arange(1, labels + 1).sum())
    return truth, np.where(draws.random(n) < right, truth, draws.integers(labels, size=n))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=50)
def test_the_interval_of_a_proportion_is_the_exact_one(sample):
    successes, n = sample
    found = proportion(successes, n)
    exact = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert (found.value, found.n) == (successes / n, n)
    assert (found.ci_low, found.ci_high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(successes, n):
    with pytest.raises(ValueError, match=f"{successes} of {n} is no proportion"):
        proportion(successes, n)


@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_macro_f1_is_scikit_learns_over_the_labels_that_occur(seed, n, labels):
    truth, guess = labels_and_guesses(seed, n, labels)
    expected = f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)
    assert macro_f1(truth, guess, labels, seed=0).value == pytest.approx(expected)


def test_the_interval_of_macro_f1_is_that_of_resampling_examples():
    truth, guess = labels_and_guesses()
    found = macro_f1(truth, guess, 6, seed=0)
    draws = np.random.default_rng(1)
    replicates = []
    for _ in range(400):
        rows = draws.integers(len(truth), size=len(truth))
        replicates.append(f1_score(truth[rows], guess[rows], labels=np.unique(truth[rows]), average="macro"))
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(np.percentile(replicates, [2.5, 97.5])), abs=0.02)


def test_the_interval_of_macro_f1_contains_it_though_many_labels_are_rare():
    truth = np.concatenate([np.zeros(600, dtype=np.int64), np.arange(1, 15)])
    guess = np.where(np.arange(len(truth)) < 30, 1, truth)
    found = macro_f1(truth, guess, 15, seed=0)
    assert found.ci_low < found.value < found.ci_high


def test_macro_f1_without_an_error_is_certain():
    labels = np.arange(30)
    assert macro_f1(labels, labels, 30, seed=0) == Measurement(1.0, 30, 1.0, 1.0)


def test_the_bootstrap_of_macro_f1_is_seeded():
    truth, guess = labels_and_guesses()
    assert macro_f1(truth, guess, 6, seed=3) == macro_f1(truth, guess, 6, seed=3)
    assert macro_f1(truth, guess, 6, seed=3) != macro_f1(truth, guess, 6, seed=4)


def test_a_metrics_file_holds_metric_seed_value_and_interval(tmp_path):
    path = tmp_path / "train.json"
    by_seed = {
        1: {"test/accuracy": proportion(1, 2), "train/parameters": Measurement(7.0)},
        0: {"test/accuracy": proportion(2, 2)},
    }
    measurements.write(path, ABOUT, by_seed)
    content = json.loads(path.read_text())
    assert About(**content["about"]) == ABOUT
    assert list(content["metrics"]) == ["test/accuracy", "train/parameters"]
    assert content["metrics"]["train/parameters"] == {"1": {"value": 7.0, "n": None, "ci_low": None, "ci_high": None}}
    assert list(content["metrics"]["test/accuracy"]) == ["0", "1"]
    assert content["metrics"]["test/accuracy"]["0"]["n"] == 2


@pytest.mark.parametrize("key", ["accuracy", "test/", "/accuracy", ""])
def test_a_key_of_another_form_is_refused(key):
    with pytest.raises(ValueError, match="a metric is named split/metric"):
        measurements.checked({key: Measurement(1.0)})


def test_a_group_may_be_named_with_a_slash():
    assert list(measurements.checked({"test/true_positive_rate/he/she": Measurement(1.0)})) == [
        "test/true_positive_rate/he/she"
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"test/accuracy: (nan|inf) is no measurement"):
        measurements.write(tmp_path / "m.json", ABOUT, {0: {"test/accuracy": Measurement(value)}})
    assert not list(tmp_path.iterdir())
