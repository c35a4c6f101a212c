"""The noise: its deviation, its independence, and that it is the same in any number of threads."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.privacy.noise import GENERATORS, LARGE, PIECE, Noise

# Each generator draws more than a piece of the large one.
SIZES = {"small": 1000, "large": GENERATORS * (PIECE + 1000) + 3}


def drawn(size, seed=0, deviation=1.5, times=1):
    """Return what is added to sums of zero in so many steps: (times, size)."""
    parameter, noise = nn.Parameter(torch.zeros(size)), Noise(seed)
    steps = []
    for _ in range(times):
        parameter.grad = None
        noise.add([parameter], deviation, 1)
        steps.append(parameter.grad.clone())
    return torch.stack(steps).numpy()


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_it_has_the_deviation_that_is_asked_for(size):
    values = drawn(size, times=3)
    assert values.std() == pytest.approx(1.5, rel=5 / np.sqrt(2 * values.size))
    assert values.mean() == pytest.approx(0, abs=5 * 1.5 / np.sqrt(values.size))


def test_parts_steps_and_seeds_are_independent():
    assert SIZES["large"] > LARGE
    one, other, of_another_seed = *drawn(SIZES["large"], times=2), drawn(SIZES["large"], seed=1)[0]
    length = 2**15
    parts = np.concatenate(
        [each[: len(each) // length * length].reshape(-1, length) for each in (one, other, of_another_seed)]
    )
    assert len(parts) > 3 * 2 * GENERATORS
    correlations = np.corrcoef(parts)[np.triu_indices(len(parts), 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(length)


def test_parameters_of_one_step_are_independent():
    one, other = (nn.Parameter(torch.zeros(SIZES["large"])) for _ in range(2))
    Noise(0).add([one, other], 1.0, 1)
    assert abs(np.corrcoef(one.grad.numpy(), other.grad.numpy())[0, 1]) < 5 / np.sqrt(SIZES["large"])


def test_each_parameter_has_noise_of_its_own_precision():
    narrow, wide = (nn.Parameter(torch.zeros(SIZES["large"], dtype=dtype)) for dtype in (torch.float32, torch.float64))
    Noise(0).add([narrow, wide], 1.0, 1)
    assert (wide.grad != wide.grad.float()).float().mean() > 0.9


def test_half_precision_takes_noise():
    parameter = nn.Parameter(torch.zeros(SIZES["large"], dtype=torch.bfloat16))
    Noise(0).add([parameter], 1.0, 1)
    assert parameter.grad.dtype is torch.bfloat16
    assert float(parameter.grad.float().std()) == pytest.approx(1, rel=0.01)


def test_it_is_the_same_in_any_number_of_threads():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(drawn(SIZES["large"]))
    finally:
        torch.set_num_threads(before)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize("deviation", [0.0, 1.0])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_sums_become_means_over_the_expected_batch(size, deviation):
    parameter = nn.Parameter(torch.zeros(size))
    parameter.grad = torch.full((size,), 8.0)
    Noise(0).add([parameter], deviation, 4)
    torch.testing.assert_close(parameter.grad, 2 + torch.from_numpy(drawn(size, deviation=deviation)[0]) / 4)
