"""Half precision: under autocast, or of the model itself; norms and sums are taken in float32."""

import copy

import pytest
import torch
from torch import nn

from stages.privacy.clipping import ClippedGradients
from stages.privacy.uses import Matrix, Rows, inner_products
from tests.stages.privacy.cases import CASES, by_loop, clipped, error, flat, losses, made

# bfloat16 keeps 8 bits: one rounding is 0.4 %.
TOLERANCE = 2e-2


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("name", CASES)
def test_under_autocast_norms_and_clipped_sum_are_those_of_a_loop_under_autocast(name):
    model, inputs, labels = made(name)
    bound = float(by_loop(model, inputs, labels, 1.0)[0].median())
    # Not every CPU has torch's LSTM under autocast; ours is held against the one in float32.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled="lstm" not in name):
        norms, total = by_loop(model, inputs, labels, bound)

    with autocast():
        found_norms, found_total = clipped(model, inputs, labels, bound)

    assert found_norms.dtype == torch.float32
    assert all(parameter.grad.dtype == parameter.dtype for parameter in model.parameters())
    assert error(found_norms, norms) <= TOLERANCE
    assert error(found_total, total) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_under_autocast_a_clipped_gradient_has_the_clipping_norm_to_the_precision_of_float32(name):
    model, inputs, labels = made(name, 1)
    bound = 1e-3
    with autocast():
        norms, total = clipped(model, inputs, labels, bound)
    assert norms.min() > bound
    assert total.norm() == pytest.approx(bound, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_where_the_backward_pass_is_called_makes_no_difference(name):
    model, inputs, labels = made(name)
    with autocast():
        inside = clipped(model, inputs, labels, 0.5)
    model.zero_grad()
    recorder = ClippedGradients(model, 0.5)
    with autocast(), recorder.recording(len(inputs)):
        found = losses(model, inputs, labels)
    assert torch.equal(recorder.backward(found), inside[0])
    assert torch.equal(flat([parameter.grad for parameter in model.parameters()]), inside[1])


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama, tied", "convolution", "lstm, packed", "lstm, padded"])
def test_a_model_in_half_precision_is_about_as_exact_as_a_loop_in_half_precision(name):
    model, inputs, labels = made(name)
    rounded = copy.deepcopy(model).bfloat16()
    given = inputs.bfloat16() if inputs.is_floating_point() else inputs
    norms, total = by_loop(rounded.float(), given.to(inputs.dtype), labels, 0.5)
    loop_norms, loop_total = by_loop(rounded.bfloat16(), given, labels, 0.5)

    found_norms, found_total = clipped(rounded, given, labels, 0.5)

    assert found_norms.dtype == torch.float32
    assert {parameter.grad.dtype for parameter in rounded.parameters()} == {torch.bfloat16}
    assert error(found_norms, norms) <= 2 * error(loop_norms, norms)
    assert error(found_total, total) <= 2 * error(loop_total, total)


@pytest.mark.parametrize("positions", [1, 3, 40])
def test_uses_in_half_precision_are_summed_in_float32(positions):
    torch.manual_seed(0)
    inputs, outputs = torch.randn(4, positions, 6).bfloat16(), torch.randn(4, positions, 9).bfloat16()
    ids, looked_up = torch.randint(0, 9, (4, positions)), torch.randn(4, positions, 6).bfloat16()
    matrix, rows, factors = Matrix(inputs, outputs), Rows(ids, looked_up, 9), torch.rand(4)
    of_matrix = torch.einsum("ntp,ntd->npd", outputs.double(), inputs.double())
    of_rows = torch.einsum("ntp,ntd->npd", nn.functional.one_hot(ids, 9).double(), looked_up.double())
    for use, formed in ((matrix, of_matrix), (rows, of_rows)):
        assert error(use.squared_norms(), formed.square().sum((1, 2))) <= 1e-6
        assert error(use.scaled_sum(factors), torch.tensordot(factors.double(), formed, dims=1)) <= 1e-6
    assert error(inner_products(matrix, rows), (of_matrix * of_rows).sum((1, 2))) <= 1e-6
