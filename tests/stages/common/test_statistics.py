import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.proportion import confint_proportions_2indep

from stages.common import statistics
from stages.common.measurements import Measurement
from stages.common.statistics import (
    auc,
    bootstrap_interval,
    difference,
    macro_f1,
    of_sums,
    proportion,
    share,
    span_f1,
    spans,
)


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


@pytest.mark.parametrize(("successes", "n", "others", "m"), [(56, 70, 48, 80), (0, 10, 0, 20), (10, 10, 0, 20)])
def test_the_interval_of_a_difference_of_proportions_is_newcombes(successes, n, others, m):
    found = difference(successes, n, others, m)
    assert (found.value, found.n) == (successes / n - others / m, n + m)
    expected = confint_proportions_2indep(successes, n, others, m, compare="diff", method="newcomb")
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-9)


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


def drawn(seed, ties=True):
    """Return scores of 150 positives and of 120 negatives; positives score higher by 0.7 in the mean."""
    draws = np.random.default_rng(seed)
    scores = draws.normal(0.7, 1, 150), draws.normal(0, 1, 120)
    return tuple(np.round(some, 1) if ties else some for some in scores)


few_scores = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30).map(np.array)


@given(few_scores, few_scores)
@settings(deadline=None, max_examples=60)
def test_the_auc_is_scikit_learns_with_ties(positives, negatives):
    truth = np.repeat([1, 0], [len(positives), len(negatives)])
    expected = roc_auc_score(truth, np.concatenate([positives, negatives]))
    assert auc(positives, negatives).value == pytest.approx(expected)


def wins(positives, negatives):
    """Return (positives, negatives): 1 where the positive scores higher, 1/2 where both score the same."""
    higher, same = positives[:, None] > negatives[None], positives[:, None] == negatives[None]
    return higher + 0.5 * same


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_of_the_auc_is_delongs_by_its_definition(ties):
    positives, negatives = drawn(1, ties=ties)
    pairs = wins(positives, negatives)
    value = sum(pairs[i, j] for i in range(150) for j in range(120)) / (150 * 120)
    by_positive = [sum(pairs[i, j] for j in range(120)) / 120 for i in range(150)]
    by_negative = [sum(pairs[i, j] for i in range(150)) / 150 for j in range(120)]
    variance = (
        sum((part - value) ** 2 for part in by_positive) / 149 / 150
        + sum((part - value) ** 2 for part in by_negative) / 119 / 120
    )
    found = auc(positives, negatives)
    half = stats.norm.ppf(0.975) * variance**0.5
    assert (found.ci_low, found.ci_high) == pytest.approx((value - half, value + half))
    assert found.n == 270


def test_the_interval_of_the_auc_covers_it_as_often_as_it_says():
    true = stats.norm.cdf(0.7 / np.sqrt(2))
    found = [auc(*drawn(seed, ties=False)) for seed in range(400)]
    # Binomial(400, 0.95): four standard errors are 0.044.
    assert 0.906 <= np.mean([some.ci_low <= true <= some.ci_high for some in found]) <= 0.994


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_of_the_auc_is_statsmodels_of_the_probability_to_be_larger(ties):
    found, peer = auc(*drawn(1, ties=ties)), rank_compare_2indep(*drawn(1, ties=ties), use_t=False)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((peer.prob1, *peer.conf_int()))


@pytest.mark.parametrize(
    ("positives", "negatives", "value"), [([100, 101], [1, 2, 3], 1), ([0] * 50, [0] * 50, 0.5), ([0] * 9, [1] * 9, 0)]
)
def test_the_auc_of_what_is_perfect_useless_or_always_wrong(positives, negatives, value):
    assert auc(np.array(positives), np.array(negatives)).value == value


@pytest.mark.parametrize(("positives", "negatives"), [([2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [2.0])])
def test_one_score_of_a_side_gives_an_auc_without_an_interval(positives, negatives):
    assert auc(np.array(positives), np.array(negatives)) == Measurement(0.5, 4)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("B-x", {(0, 1, "x")}),
        ("O B-x I-x I-x O", {(1, 4, "x")}),
        ("B-x I-x B-x I-x", {(0, 2, "x"), (2, 4, "x")}),
        ("B-x B-x", {(0, 1, "x"), (1, 2, "x")}),
        ("I-x I-x O", {(0, 2, "x")}),
        ("B-x I-y", {(0, 1, "x"), (1, 2, "y")}),
        ("I-x I-y I-y", {(0, 1, "x"), (1, 3, "y")}),
        ("B-x O I-x", {(0, 1, "x"), (2, 3, "x")}),
        ("B-a-b I-a-b", {(0, 2, "a-b")}),
        ("B I O B", {(0, 2, ""), (3, 4, "")}),
    ],
)
def test_spans_are_those_conlleval_counts(tags, expected):
    assert spans(tags.split()) == expected


def test_span_f1_counts_exact_spans_over_all_texts():
    gold = [["B-x", "I-x", "O"], ["B-y", "O", "B-x"], ["O"]]
    found = [["B-x", "I-x", "O"], ["B-x", "O", "B-x"], ["B-x"]]
    # Two hits of three true and four found spans.
    assert span_f1(gold, found, seed=0).value == pytest.approx(2 * 2 / (3 + 4))


@pytest.mark.parametrize(("found", "value"), [("B-x I-x", 1.0), ("B-x O", 0.0), ("O O", 0.0), ("B-y I-y", 0.0)])
def test_a_span_with_an_error_is_no_hit(found, value):
    assert span_f1([["B-x", "I-x"]], [found.split()], seed=0).value == value


def test_texts_without_a_span_have_no_f1_but_zero():
    assert span_f1([["O"]], [["O"]], seed=0).value == 0


def test_a_share_is_of_all_words_and_its_interval_of_texts():
    right, words = np.array([1, 0, 6, 0]), np.array([2, 0, 9, 4])
    found = share(right, words, seed=0)
    assert found.value == pytest.approx(7 / 15)
    assert found.n == 4
    assert found.ci_low < found.value < found.ci_high
    assert found == share(right, words, seed=0)
    assert share(0 * right, 0 * words, seed=0).value == 0


def random_tags(seed, texts=60):
    draws = np.random.default_rng(seed)
    return [list(draws.choice(["O", "B-x", "I-x", "B-y"], size=draws.integers(1, 8))) for _ in range(texts)]


def test_the_interval_of_span_f1_contains_it_and_is_seeded():
    gold = random_tags(0)
    draws = np.random.default_rng(1)
    found = [[tag if draws.random() < 0.7 else "O" for tag in row] for row in gold]
    measured = span_f1(gold, found, seed=0)
    assert measured.ci_low < measured.value < measured.ci_high
    assert measured.n == 60
    assert span_f1(gold, found, seed=0) == measured
    assert span_f1(gold, found, seed=1) != measured


def test_the_interval_of_a_statistic_of_sums_is_scipys_of_rows():
    terms = np.random.default_rng(0).gamma(2.0, size=(300, 2))
    found = of_sums(lambda sums: sums[:, 0] / sums[:, 1], terms, seed=0)
    peer = stats.bootstrap(
        (terms[:, 0], terms[:, 1]),
        lambda left, right, axis: left.sum(axis) / right.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=2000,
        rng=1,
    ).confidence_interval
    assert (found.value, found.n) == (pytest.approx(terms[:, 0].sum() / terms[:, 1].sum()), 300)
    assert (found.ci_low, found.ci_high) == pytest.approx((peer.low, peer.high), abs=0.01)


@pytest.mark.parametrize("most", [1, 30, 7000])
def test_a_bootstrap_that_draws_less_at_once_finds_the_same(monkeypatch, most):
    def interval():
        generator = np.random.default_rng(0)
        found = bootstrap_interval(lambda times: times @ np.arange(20), np.arange(20), generator)
        return *found, generator.random()

    at_once = interval()
    monkeypatch.setattr(statistics, "MOST_DRAWN", most)
    assert interval() == at_once
