import math

import numpy as np
import pytest
from scipy import stats

from stages.results import correlations
from stages.results.correlations import (
    coefficients,
    critical_correlation,
    p_values,
    partial_correlation,
    percentiles,
    power,
    resamples,
    slopes,
    without_each,
)


def related(n: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, noise = np.random.default_rng(seed).normal(size=(2, n))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def by_scipy(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [test(x, y).statistic for test in (stats.pearsonr, stats.spearmanr, stats.kendalltau)]


@pytest.mark.parametrize("n", [4, 11, 30])
@pytest.mark.parametrize("tied", [False, True])
def test_coefficients_are_scipys_also_of_resamples_and_ties(n: int, tied: bool) -> None:
    x, y = related(n, 0.4, n)
    x = x.round(0) if tied else x
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=20)

    found = coefficients(x, y, np.concatenate([np.ones((1, n), dtype=np.int64), times]))

    assert found[0] == pytest.approx(by_scipy(x, y))
    for row, drawn in zip(found[1:], times, strict=True):
        with np.errstate(all="ignore"):
            again = np.repeat(x, drawn), np.repeat(y, drawn)
        if np.ptp(again[0]) and np.ptp(again[1]):
            assert row == pytest.approx(by_scipy(*again))
        else:
            assert np.isnan(row).all()


def test_slopes_are_those_of_least_squares() -> None:
    x, y = related(9, 0.5, 1)
    times = np.array([[1] * 9, [3, 0, 2, 1, 1, 0, 0, 1, 1], [9] + [0] * 8])

    found = slopes(x + 100, y, times)

    for slope, drawn in zip(found[:2], times[:2], strict=True):
        assert slope == pytest.approx(stats.linregress(np.repeat(x, drawn), np.repeat(y, drawn)).slope)
    assert math.isnan(found[2])


def test_a_planted_correlation_is_recovered_and_lies_in_its_intervals() -> None:
    sets, n, rho = 300, 40, 0.5
    pearson, inside = [], 0
    for seed in range(sets):
        x, y = related(n, rho, seed)
        pearson.append(coefficients(x, y, np.ones((1, n), dtype=np.int64))[0, 0])
        low, high = percentiles(coefficients(x, y, resamples(np.arange(n), seed)[:300])[:, 0])
        inside += low <= rho <= high

    z = np.arctanh(pearson)
    # Fisher's z of rho, with its bias.
    assert abs(z.mean() - math.atanh(rho) - rho / (2 * (n - 1))) < 4 * z.std() / math.sqrt(sets)
    # A percentile bootstrap of 40 covers a little less than 95%.
    assert 0.88 * sets < inside < 0.98 * sets


@pytest.mark.parametrize("n", [6, 12, 25])
def test_the_null_is_rejected_one_time_in_twenty(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlations, "PERMUTATIONS", 199)
    sets = 400

    rejected = (np.array([p_values(*related(n, 0.0, seed), seed) for seed in range(sets)]) <= 0.05).sum(axis=0)

    low, high = stats.binom.interval(0.999, sets, 0.05)
    assert (rejected <= high).all()
    # Of few models tau and rho take few values, and the test is careful.
    assert rejected[0] >= low
    assert (rejected >= low / 2).all()


def test_all_orders_of_few_models_are_tried() -> None:
    # Of 5 models in perfect order 2 of 120 are as good.
    assert p_values(np.arange(5.0), np.arange(5.0), 0) == pytest.approx([2 / 120] * 3)
    x, y = related(6, 0.5, 3)
    exact = stats.kendalltau(x, y, method="exact").pvalue
    assert p_values(x, y, 0)[2] == pytest.approx(exact)


def test_random_orders_come_near_the_usual_tests_and_come_again() -> None:
    x, y = related(19, 0.4, 4)
    found = p_values(x, y, 7)

    assert (found == p_values(x, y, 7)).all()
    assert found == pytest.approx([stats.pearsonr(x, y).pvalue, stats.spearmanr(x, y).pvalue, found[2]], abs=0.02)
    assert found[2] == pytest.approx(stats.kendalltau(x, y).pvalue, abs=0.02)


def test_partial_correlation_is_that_of_residuals() -> None:
    x, y = related(15, 0.3, 5)
    controls = np.random.default_rng(6).normal(size=(15, 2))
    x, y = x + controls[:, 0], y + controls @ [2, 1]

    # The definition by the inverse of the correlations, of all four.
    precision = np.linalg.inv(np.corrcoef(np.column_stack([x, y, controls]).T))
    expected = -precision[0, 1] / math.sqrt(precision[0, 0] * precision[1, 1])
    r, p = partial_correlation(x, y, controls)

    assert r == pytest.approx(expected)
    t = expected * math.sqrt(11 / (1 - expected**2))
    assert p == pytest.approx(2 * stats.t.sf(abs(t), 11))
    # A control that says nothing new costs no degree of freedom.
    assert partial_correlation(x, y, np.column_stack([controls, controls[:, 0]])) == pytest.approx((r, p))


def test_a_partial_correlation_needs_something_left() -> None:
    x, y = related(5, 0.3, 5)
    controls = np.random.default_rng(6).normal(size=(5, 3))

    assert np.isnan(partial_correlation(x, y, controls)).all()
    assert np.isnan(partial_correlation(controls[:, 0] * 3 + 1, y, controls[:, :1])).all()


def test_nineteen_models_as_on_the_card() -> None:
    # shared/papers/fairness_metrics.md, section 3; its .82 is .814 by the exact density.
    assert critical_correlation(19) == pytest.approx(0.456, abs=5e-4)
    assert [power(19, rho) for rho in (0.3, 0.5, 0.6)] == pytest.approx([0.24, 0.62, 0.82], abs=0.007)
    assert power(19, 0.0) == pytest.approx(0.05, abs=1e-6)
    assert power(19, -0.5) == pytest.approx(power(19, 0.5))


def test_power_is_how_often_a_correlation_is_significant() -> None:
    n, sets = 10, 20_000
    x, noise = np.random.default_rng(0).normal(size=(2, sets, n))
    y = 0.5 * x + math.sqrt(0.75) * noise
    t = [side - side.mean(axis=1, keepdims=True) for side in (x, y)]
    r = (t[0] * t[1]).sum(axis=1) / np.sqrt((t[0] ** 2).sum(axis=1) * (t[1] ** 2).sum(axis=1))

    share = (np.abs(r) > critical_correlation(n)).mean()

    assert power(n, 0.5) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / sets))
    assert math.isnan(power(3, 0.5))
    assert math.isnan(critical_correlation(2))


def test_whole_families_are_drawn_and_left_out() -> None:
    blocks = np.array([0, 0, 1, 1, 2, 3])

    times = resamples(blocks, 0)
    assert (times[:, 0] == times[:, 1]).all()
    assert (times[:, 2] == times[:, 3]).all()
    assert set(times[:, [0, 2, 4, 5]].sum(axis=1)) == {4}
    assert without_each(blocks).tolist() == [
        [0, 0, 1, 1, 1, 1],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 1],
        [1, 1, 1, 1, 1, 0],
    ]
    # Three families say nothing of their spread, and without one of two fewer than four models are left.
    assert len(resamples(np.array([0, 1, 2, 2]), 0)) == 0
    assert len(without_each(np.array([0, 0, 0, 1, 1, 1]))) == 0
