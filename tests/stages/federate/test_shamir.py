from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.federate.shamir import PRIME, join, split


def draws(seed=0):
    return np.random.default_rng(seed)


def test_the_prime_is_one_and_the_smallest_above_all_secrets():
    # Fermat's test, which none of these bases lets a composite pass unless it was made to.
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in range(2, 40))
    assert all(pow(3, number - 1, number) != 1 for number in range(2**256 + 1, PRIME, 2))


@given(st.binary(min_size=32, max_size=32), st.integers(1, 8), st.integers(0, 5), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_any_shares_as_many_as_the_threshold_recover_a_secret(secret, threshold, more, seed):
    places = draws(seed).choice(1_000_000, size=threshold + more, replace=False) + 1
    shares = split(secret, threshold, [int(place) for place in places], draws(seed))
    chosen = draws(seed + 1).permutation(list(shares))[:threshold]
    assert join({int(place): shares[place] for place in chosen}) == secret


def test_all_choices_of_shares_recover_it_and_one_fewer_does_not():
    secret = bytes(range(32))
    shares = split(secret, 3, range(1, 6), draws())
    assert all(join(dict(chosen)) == secret for chosen in combinations(shares.items(), 3))
    assert all(join(dict(chosen)) != secret for chosen in combinations(shares.items(), 2))


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32], ids=["zeros", "ones"])
def test_fewer_shares_look_alike_whatever_the_secret(secret):
    # The share at a place, over many draws: uniform below the prime, by the top byte.
    shares = [split(secret, 2, [1], draws(seed))[1] for seed in range(4096)]
    counts = np.bincount([share >> 252 for share in shares], minlength=16)[:16]
    # Chi-square of 15 degrees: 37.7 is the 99.9th percentile.
    assert ((counts - 256) ** 2 / 256).sum() < 37.7
