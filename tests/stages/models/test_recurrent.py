"""The LSTM written out against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.models.recurrent import LSTM, packed, padded

LENGTHS = torch.tensor([3, 7, 1, 7, 4])
OPTIONS = {
    "one direction": {},
    "both": {"bidirectional": True},
    "both, two layers": {"bidirectional": True, "num_layers": 2},
    "without biases": {"bidirectional": True, "bias": False},
}


def texts(dtype=torch.float64):
    return torch.randn(5, 7, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))


def pair(dtype=torch.float64, **options):
    """Return torch's LSTM and ours with the same weights."""
    torch.manual_seed(1)
    theirs = nn.LSTM(6, 4, batch_first=True, dtype=dtype, **options)
    ours = LSTM(6, 4, batch_first=True, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def read(layer, values):
    """Return all that a layer puts out, and the gradients of its weights and inputs."""
    values = values.clone().requires_grad_()
    outputs, (hidden, cell) = layer(pack_padded_sequence(values, LENGTHS, batch_first=True, enforce_sorted=False))
    outputs = pad_packed_sequence(outputs, batch_first=True, total_length=7)[0]
    # Each of the three with a gradient of its own.
    (outputs.square().sum() + hidden.sin().sum() + 2 * cell.cos().sum()).backward()
    return [outputs, hidden, cell, values.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_states_and_gradients_are_those_of_torch(options):
    for theirs, ours in zip(*(read(layer, texts()) for layer in pair(**options)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_in_single_precision_they_agree_to_its_last_digits():
    for theirs, ours in zip(
        *(read(layer, texts(torch.float32)) for layer in pair(torch.float32, bidirectional=True)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("used", [0, 1, 2], ids=["outputs", "states", "cells"])
def test_what_is_not_used_takes_no_gradient(used):
    gradients = []
    for layer in pair(bidirectional=True):
        outputs, state = layer(pack_padded_sequence(texts(), LENGTHS, batch_first=True, enforce_sorted=False))
        (outputs.data, *state)[used].square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_text_of_one_word_alone():
    (theirs, ours), word = pair(bidirectional=True), torch.ones(1, 1, 6, dtype=torch.float64)
    alone = packed(word, torch.tensor([1]))
    torch.testing.assert_close(ours(alone)[0].data, theirs(alone)[0].data)


def test_it_is_deterministic_where_torch_must_be():
    _, ours = pair(bidirectional=True)
    torch.set_deterministic_debug_mode("error")
    try:
        found = []
        for _ in range(2):
            ours.zero_grad()
            found.append([value.clone() for value in read(ours, texts())])
    finally:
        torch.set_deterministic_debug_mode("default")
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_under_autocast_gradients_are_those_of_single_precision_to_bfloat16():
    _, ours = pair(torch.float32, bidirectional=True)
    expected = [value.clone() for value in read(ours, texts(torch.float32))]
    ours.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = read(ours, texts(torch.float32))
    assert all(parameter.grad.dtype == torch.float32 for parameter in ours.parameters())
    for one, other in zip(found, expected, strict=True):
        assert float((one.detach().float() - other.detach()).norm() / other.detach().norm()) < 0.02


def test_the_backward_pass_may_run_again():
    _, ours = pair(bidirectional=True)
    loss = ours(packed(texts(), LENGTHS))[0].data.square().sum()
    once = torch.autograd.grad(loss, list(ours.parameters()), retain_graph=True)
    for one, other in zip(once, torch.autograd.grad(loss, list(ours.parameters())), strict=True):
        assert torch.equal(one, other)


def test_dropout_between_layers_is_that_of_training():
    torch.manual_seed(0)
    layer = LSTM(6, 4, 2, batch_first=True, dropout=0.5)
    once, again = (layer(packed(texts(torch.float32), LENGTHS))[0].data for _ in range(2))
    assert not torch.equal(once, again)
    layer.eval()
    once, again = (layer(packed(texts(torch.float32), LENGTHS))[0].data for _ in range(2))
    assert torch.equal(once, again)


def test_what_is_no_packed_text_is_left_to_torch():
    theirs, ours = pair(bidirectional=True)
    torch.testing.assert_close(ours(texts())[0], theirs(texts())[0])


def test_an_lstm_that_projects_its_state_is_left_to_torch():
    theirs, ours = pair(bidirectional=True, proj_size=2)
    alone = packed(texts(), LENGTHS)
    torch.testing.assert_close(ours(alone)[0].data, theirs(alone)[0].data)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        packed(texts(), torch.tensor([3, 7, 0, 7, 4]))


def test_packing_is_torchs():
    ours = packed(texts(), LENGTHS)
    theirs = pack_padded_sequence(texts(), LENGTHS, batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(
        torch.nn.utils.rnn.pad_packed_sequence(ours, batch_first=True)[0],
        torch.nn.utils.rnn.pad_packed_sequence(theirs, batch_first=True)[0],
    )
    assert torch.equal(ours.batch_sizes, theirs.batch_sizes)


def test_unpacking_restores_texts_with_zeros_where_they_have_ended():
    found = padded(packed(texts(), LENGTHS), LENGTHS, 7)
    inside = torch.arange(7) < LENGTHS[:, None]
    assert torch.equal(found, texts() * inside[..., None])
