import numpy as np
import pytest

from stages.shadow.dealing import deal


@pytest.mark.parametrize(
    ("examples", "size", "shadows"), [(100, 50, 8), (97, 39, 16), (10, 9, 12), (7, 7, 8), (5, 1, 8)]
)
def test_models_see_equally_many_examples_and_examples_are_seen_equally_often(examples, size, shadows):
    sees = deal(examples, size, shadows, np.random.default_rng(0))
    assert (sees.sum(axis=1) == size).all()
    times = sees.sum(axis=0)
    assert times.max() - times.min() <= 1


def test_who_sees_what_is_random():
    first, second = (deal(400, 160, 16, np.random.default_rng(seed)) for seed in (0, 1))
    # Of two independent draws of two fifths, 52% agree.
    assert 0.48 < (first == second).mean() < 0.56
    # And within one dealing: models that share no deck overlap by two fifths of their examples.
    overlap = (first[0] & first[5]).sum() / 160
    assert 0.28 < overlap < 0.52
