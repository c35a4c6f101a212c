"""Norms and clipped sums of every kind of layer, against a loop over examples; what is refused; parity with Opacus."""

import copy
import math
import warnings

import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

from stages.privacy.clipping import ClippedGradients, UnsupportedLayerError
from tests.stages.privacy.cases import CASES, Recurrent, by_loop, clipped, error, flat, ids, losses, made

TOLERANCE = 1e-5


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("name", CASES)
def test_norms_and_clipped_sum_are_those_of_a_loop_over_examples(name, n):
    model, inputs, labels = made(name, n)
    bound = float(by_loop(model, inputs, labels, 1.0)[0].median())
    norms, total = by_loop(model, inputs, labels, bound)
    assert n == 1 or norms.min() < bound < norms.max()

    found_norms, found_total = clipped(model, inputs, labels, bound)

    assert error(found_norms, norms) <= TOLERANCE
    assert error(found_total, total) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_model_computes_what_it_always_does_and_is_itself_again(name):
    model, inputs, labels = made(name)
    before = model(inputs)
    recorder = ClippedGradients(model, 1.0)
    with recorder.recording(len(inputs)):
        recorded = model(inputs)
    torch.testing.assert_close(recorded, before, rtol=1e-5, atol=1e-6)
    assert not [module for module in model.modules() if "forward" in vars(module)]
    losses(model, inputs, labels).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_passes_add_up():
    model, inputs, labels = made("bert")
    whole = clipped(model, inputs, labels, 0.5)[1]
    model.zero_grad()
    clipped(model, inputs[:2], labels[:2], 0.5)
    assert error(clipped(model, inputs[2:], labels[2:], 0.5)[1], whole) <= TOLERANCE


def test_removing_an_example_moves_the_sum_by_at_most_the_bound_and_replacing_one_by_twice_that():
    model, inputs, labels = made("lstm, packed")
    bound = 0.1
    whole = clipped(model, inputs, labels, bound)[1]
    model.zero_grad()
    less = clipped(model, inputs[1:], labels[1:], bound)[1]
    model.zero_grad()
    other = clipped(model, torch.cat([-inputs[:1], inputs[1:]]), labels.roll(0), bound)[1]
    assert (whole - less).norm() == pytest.approx(bound, rel=1e-4)
    assert (whole - other).norm() <= 2 * bound * (1 + 1e-5)


def test_what_is_frozen_has_no_part_in_the_norm():
    model, inputs, labels = made("bert")
    model.model.bert.embeddings.requires_grad_(False)
    norms, total = by_loop(model, inputs, labels, 0.5)
    model.zero_grad()
    recorder = ClippedGradients(model, 0.5)
    with recorder.recording(5):
        found = losses(model, inputs, labels)
    assert error(recorder.backward(found), norms) <= TOLERANCE
    trained = flat([p.grad for p in model.parameters() if p.requires_grad])
    assert error(trained, total[-len(trained) :]) <= TOLERANCE
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_an_example_that_is_not_finite_adds_nothing():
    model, inputs, labels = made("few positions")
    expected = clipped(model, inputs[1:], labels[1:], 0.5)[1]
    model.zero_grad()
    inputs = inputs.clone()
    inputs[0, 0, 0] = float("nan")
    norms, total = clipped(model, inputs, labels, 0.5)
    assert not norms[0].isfinite()
    assert error(total, expected) <= TOLERANCE


def test_an_empty_batch_has_a_sum_of_zero():
    model, inputs, labels = made("few positions")
    norms, total = clipped(model, inputs[:0], labels[:0], 0.5)
    assert len(norms) == 0
    assert not total.any()


def test_parity_with_opacus_without_noise_over_several_steps_in_pieces():
    ours, inputs, labels = made("many positions")
    # Opacus looks at a model in training only; this one has no dropout.
    theirs = copy.deepcopy(ours).train()
    recorder, mine = ClippedGradients(ours, 0.5), torch.optim.SGD(ours.parameters(), lr=0.5)
    wrapped = GradSampleModule(theirs, loss_reduction="sum")
    peer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=0.5), noise_multiplier=0.0, max_grad_norm=0.5, expected_batch_size=5
    )
    for _ in range(3):
        mine.zero_grad()
        peer.zero_grad()
        for number, rows in enumerate((slice(0, 2), slice(2, 5))):
            with recorder.recording(len(labels[rows])):
                found = losses(ours, inputs[rows], labels[rows])
            recorder.backward(found)
            peer.signal_skip_step(do_skip=number == 0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                losses(wrapped, inputs[rows], labels[rows]).sum().backward()
            peer.step()
            peer.zero_grad()
        for parameter in ours.parameters():
            parameter.grad /= 5
        mine.step()
    moved = flat(ours.parameters()) - flat(made("many positions")[0].parameters())
    assert (flat(ours.parameters()) - flat(theirs.parameters())).norm() / moved.norm() <= 1e-4


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(3), "1: BatchNorm1d mixes the examples of a batch; use LayerNorm"),
        (GemmaRMSNorm(3), "1: the per-example gradients of GemmaRMSNorm are not known; known: .*, MistralRMSNorm,"),
        (
            nn.Conv2d(1, 1, 1),
            "1: the per-example gradients of Conv2d are not known; known: Chain, Conv1D, Conv1d, Embedding, LSTM,",
        ),
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layer, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        ClippedGradients(nn.Sequential(nn.Linear(3, 3), layer), 1.0)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_convolution_that_does_not_pad_with_zeros_is_refused_by_name(mode):
    recorder = ClippedGradients(nn.Conv1d(3, 3, 3, padding=1, padding_mode=mode), 1.0)
    message = f"Conv1d with padding_mode='{mode}' is not supported; use 'zeros'"
    with pytest.raises(UnsupportedLayerError, match=message), recorder.recording(2):
        pass


class Bypassed(nn.Module):
    """A table whose weights are used as a matrix without its layer knowing."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6)

    def forward(self, ids):
        return nn.functional.linear(self.words(ids).mean(1), self.words.weight)


def test_a_parameter_that_is_used_past_its_layer_is_refused():
    model, before = Bypassed(), torch.ones(9, 6)
    model.words.weight.grad = before
    recorder = ClippedGradients(model, 1.0)
    with recorder.recording(5):
        found = losses(model, ids(5), torch.zeros(5, dtype=torch.long))
    with pytest.raises(UnsupportedLayerError, match=r"words\.weight: is used otherwise than by its layer"):
        recorder.backward(found)
    assert model.words.weight.grad is before


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_clipping_norm_is_above_zero(norm):
    with pytest.raises(ValueError, match="a clipping norm is above 0"):
        ClippedGradients(nn.Linear(3, 3), norm)


def test_a_mean_over_the_batch_is_refused():
    model, inputs, labels = made("few positions")
    recorder = ClippedGradients(model, 1.0)
    with recorder.recording(5):
        mean = losses(model, inputs, labels).mean()
    with pytest.raises(ValueError, match=r"one loss per example: \(5,\), not \(\)"):
        recorder.backward(mean)


def test_an_lstm_refuses_an_initial_state():
    model = Recurrent(packed=False)
    state = torch.zeros(2, 3, 5)
    with ClippedGradients(model, 1.0).recording(2), pytest.raises(ValueError, match="initial state"):
        model.lstm(torch.randn(2, 3, 6), (state, state))


@pytest.mark.parametrize(
    "name",
    [
        "embedding",
        "lstm, packed in any order",
        "bert",
        "tied and shared",
        "chain",
        "characters",
        "llama, tied",
        "convolution",
        "convolution, groups",
        "rms norm, two dimensions",
    ],
)
def test_a_group_is_clipped_as_one_example_would_be(name):
    model, inputs, labels = made(name, 4)
    means = []
    for rows in (slice(0, 2), slice(2, 4)):
        model.zero_grad()
        losses(model, inputs[rows], labels[rows]).mean().backward()
        means.append(flat([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]))
    norms = torch.stack([mean.norm() for mean in means])
    bound = float(norms.mean())
    expected = sum(mean * min(1.0, bound / float(norm)) for mean, norm in zip(means, norms, strict=True))
    model.zero_grad()
    recorder = ClippedGradients(model, bound, group=2)
    with recorder.recording(4):
        found = losses(model, inputs, labels)
    assert error(recorder.backward(found), norms) <= TOLERANCE
    assert error(flat([parameter.grad for parameter in model.parameters()]), expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["lstm, packed in any order", "tied and shared", "chain"])
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_batch_that_is_one_group_is_clipped_from_its_own_gradient(name, share):
    model, inputs, labels = made(name, 4)
    losses(model, inputs, labels).mean().backward()
    mean = flat([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    bound = share * float(mean.norm())
    recorder = ClippedGradients(model, bound, group=4)
    with recorder.recording(4):
        found = losses(model, inputs, labels)
    assert error(recorder.backward(found), mean.norm()[None]) <= TOLERANCE
    # Passes add up: `.grad` has the mean of before.
    assert error(flat([parameter.grad for parameter in model.parameters()]), mean * (1 + min(1.0, share))) <= TOLERANCE


def test_one_group_that_is_not_finite_adds_nothing():
    model = nn.Linear(3, 2)
    recorder = ClippedGradients(model, 1.0, group=2)
    with recorder.recording(2):
        found = model(torch.tensor([[1.0, 2.0, 3.0], [1.0, math.nan, 0.0]])).sum(1)
    assert not recorder.backward(found).isfinite()
    assert not flat([parameter.grad for parameter in model.parameters()]).any()


def test_a_batch_that_is_no_whole_groups_is_refused():
    recorder = ClippedGradients(nn.Linear(3, 3), 1.0, group=4)
    with pytest.raises(ValueError, match="6 examples are no whole groups of 4"), recorder.recording(6):
        pass
    with pytest.raises(ValueError, match="a group has at least one example, not 0"):
        ClippedGradients(nn.Linear(3, 3), 1.0, group=0)
