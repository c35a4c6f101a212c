import numpy as np
import pytest

from stages.audit.one_run import lower_bound


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "epsilon"),
    [
        # The figures of jax-privacy's auditing module for the same arguments.
        (100, 100, 100, 0.0, 3.493),
        (1000, 1000, 1000, 0.0, 5.809),
        (1000, 1000, 1000, 1e-5, 5.782),
        (1000, 100, 90, 1e-5, 1.626),
        (1000, 1000, 600, 1e-5, 0.297),
        (1000, 100, 50, 1e-5, 0.0),
    ],
)
def test_the_bound_of_one_run_is_that_of_the_reference(canaries, guesses, correct, delta, epsilon):
    assert lower_bound(canaries, guesses, correct, delta) == pytest.approx(epsilon, abs=2e-3)


def test_the_bound_of_one_run_holds_as_often_as_it_says():
    # Coins guessed right with the probability of epsilon 1, pure.
    draws = np.random.default_rng(0)
    correct, times = np.unique(draws.binomial(200, 1 / (1 + np.exp(-1)), 5_000), return_counts=True)
    above = sum(count for v, count in zip(correct, times, strict=True) if lower_bound(200, 200, int(v), 0.0) > 1)
    assert above / 5_000 <= 0.055
