import itertools

import numpy as np
import torch

from stages.common.settings import Settings
from stages.common.streams import generator, identity, torch_seed

KEYS = [
    (3, "noise"),
    (4, "noise"),
    (3, "dropout"),
    (3, "noise", 0),
    (3, "noise", 1),
    (3, "noise", 1, 0),
    (3, "noise", 0, 1),
]


def test_the_same_name_is_the_same_stream():
    for key in KEYS:
        assert generator(*key).random() == generator(*key).random()
        assert torch_seed(*key) == torch_seed(*key)


def test_two_names_that_differ_anywhere_are_two_streams():
    numbers = [generator(*key).random() for key in KEYS]
    seeds = [torch_seed(*key) for key in KEYS]
    assert len(set(numbers)) == len(set(seeds)) == len(KEYS)


def test_streams_are_uncorrelated():
    drawn = [generator(*key).normal(size=4000) for key in KEYS]
    for one, other in itertools.combinations(drawn, 2):
        # Four standard errors.
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(4000)


def test_torch_takes_every_seed():
    seeds = [torch_seed(seed, "noise") for seed in range(2000)]
    assert min(seeds) >= 0
    assert max(seeds) > 2**60
    torch.Generator().manual_seed(max(seeds))


class Cell(Settings):
    rate: float
    seeds: tuple[int, ...] = (0,)
    role: str = "model"


def test_cells_are_told_apart_by_all_but_their_seeds_and_role():
    cell = identity(Cell(rate=0.1))
    assert cell == identity(Cell(rate=0.1, seeds=(0, 1), role="reference"))
    assert cell != identity(Cell(rate=0.2))
    assert len(cell) == 4
    assert all(0 <= number < 2**32 for number in cell)
