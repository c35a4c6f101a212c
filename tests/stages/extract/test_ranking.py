import numpy as np
import pytest
import torch

from stages.extract.ranking import chance_exposure, exposure, rank


def test_the_rank_is_that_of_a_count():
    losses = torch.from_numpy(np.random.default_rng(0).permutation(1000) / 7.0)
    order = torch.argsort(losses)
    assert [rank(losses, int(index)) for index in order[:5]] == [1, 2, 3, 4, 5]
    assert rank(losses, int(order[-1])) == 1000


def test_equal_codes_have_the_mean_of_their_ranks():
    losses = torch.tensor([0.5, 0.1, 0.5, 0.5, 0.9])
    assert [rank(losses, index) for index in range(5)] == [3, 1, 3, 3, 5]
    assert rank(torch.zeros(9), 4) == 5


@pytest.mark.parametrize("candidates", [10**4, 10**6, 12**4])
def test_the_first_rank_gives_all_bits_and_the_last_none(candidates):
    assert exposure(candidates, 1) == pytest.approx(np.log2(candidates))
    assert exposure(candidates, candidates) == 0
    # What the method card computed.
    assert exposure(10**4, 1) == pytest.approx(13.29, abs=0.005)
    assert exposure(10**6, 1) == pytest.approx(19.93, abs=0.005)


def test_exposure_of_a_synthetic_ranking():
    losses = torch.arange(1024.0)
    assert [exposure(1024, rank(losses, index)) for index in (0, 1, 3, 511)] == [10, 9, 8, 1]


def test_the_chance_level_is_the_mean_over_all_ranks():
    losses = torch.arange(50.0)
    assert chance_exposure(50) == pytest.approx(np.mean([exposure(50, rank(losses, index)) for index in range(50)]))
    assert chance_exposure(10**6) == pytest.approx(np.log2(np.e), abs=1e-4)
