"""Norms and clipped sums of every kind of layer, against a loop over examples; what is refused; parity with Opacus."""

import copy
import warnings

import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from stages.privacy.clipping import ClippedGradients, UnsupportedLayerError

TOLERANCE = 1e-5


class Wide(nn.Module):
    """Positions few and matrices large, so that norms come from the inner products; or the other way round."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3, bias=False)
        )

    def forward(self, values):
        return self.layers(values).mean(1)


class Lookup(nn.Module):
    """A table with a row of padding, ids that repeat, and positions whose ids are given once for all examples."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6, padding_idx=0)
        self.positions = nn.Embedding(7, 6)
        self.norm = nn.LayerNorm((6,), bias=False)
        self.scores = nn.Linear(6, 3)

    def forward(self, ids):
        positions = self.positions(torch.arange(ids.shape[1])[None])
        return self.scores(self.norm(self.words(ids) + positions).sum(1))


class Tied(nn.Module):
    """A table that is also the matrix of the scores, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.inner = nn.Linear(6, 6)
        self.scores = nn.Linear(6, 9, bias=False)
        self.scores.weight = self.words.weight

    def forward(self, ids):
        return self.scores(self.inner(torch.tanh(self.inner(self.words(ids))))).mean(1)


class Recurrent(nn.Module):
    """An LSTM over texts of different lengths, packed or padded; all that it returns is used."""

    def __init__(self, packed, layers=1, both=True, in_order=True, **options):
        super().__init__()
        self.packed, self.in_order = packed, in_order
        self.lstm = nn.LSTM(6, 5, layers, bidirectional=both, **options)
        self.scores = nn.Linear(5 * (1 + both), 3)

    def forward(self, values):
        first = self.lstm.batch_first
        if self.packed:
            # Each example's own length, which a loop over examples sees as well: where its values are zero.
            lengths = (values != 0).any(2).sum(1)
            packed = pack_padded_sequence(
                values if first else values.transpose(0, 1), lengths, batch_first=first, enforce_sorted=self.in_order
            )
            outputs, (hidden, cell) = self.lstm(packed)
            outputs = pad_packed_sequence(outputs, batch_first=True, total_length=values.shape[1])[0]
        else:
            outputs, (hidden, cell) = self.lstm(values if first else values.transpose(0, 1))
            outputs = outputs if first else outputs.transpose(0, 1)
        return self.scores(outputs.sum(1)) + (hidden.sum((0, 2)) + 0.5 * cell.sum((0, 2)))[:, None]


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.model = BertForSequenceClassification(
            BertConfig(vocab_size=9, max_position_embeddings=16, num_labels=3, **sizes, **dropout)
        )

    def forward(self, ids):
        return self.model(input_ids=ids, attention_mask=(ids != 0).long()).logits


class Gpt2(nn.Module):
    """Tied, with transposed matrices; a loss of language modelling, normalised per example."""

    def __init__(self):
        super().__init__()
        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=9, n_positions=16, n_embd=8, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
            )
        )

    def forward(self, ids):
        return self.model(input_ids=ids).logits.mean(1)


def values(n, positions=4):
    found = torch.randn(n, positions, 6)
    for row, length in enumerate([positions, positions, 3, 2, 1][:n]):
        found[row, length:] = 0
    return found


def ids(n):
    found = torch.randint(1, 9, (n, 7))
    for row, length in enumerate([7, 7, 5, 3, 2][:n]):
        found[row, length:] = 0
    return found


CASES = {
    "one position": (lambda: Wide(5), lambda n: values(n, 1)),
    "few positions": (lambda: Wide(40), values),
    "many positions": (lambda: Wide(5), lambda n: values(n, 30)),
    "embedding": (Lookup, ids),
    "tied and shared": (Tied, ids),
    "lstm, padded": (lambda: Recurrent(packed=False, batch_first=True), values),
    "lstm, packed": (lambda: Recurrent(packed=True, batch_first=True), values),
    "lstm, two layers, packed": (lambda: Recurrent(packed=True, layers=2), values),
    "lstm, packed in any order": (lambda: Recurrent(packed=True, in_order=False), lambda n: values(n).flip(0)),
    "lstm, one direction, no bias": (lambda: Recurrent(packed=False, both=False, bias=False), values),
    "bert": (Bert, ids),
    "gpt2": (Gpt2, ids),
}


def made(name, n=5):
    torch.manual_seed(0)
    build, inputs = CASES[name]
    return build().eval(), inputs(n), torch.randint(0, 3, (n,))


def losses(model, inputs, labels):
    return nn.functional.cross_entropy(model(inputs), labels, reduction="none")


def by_loop(model, inputs, labels, bound):
    """Return norms and clipped sum by plain autograd, one example at a time."""
    norms, total = [], [torch.zeros_like(parameter) for parameter in model.parameters()]
    for row in range(len(inputs)):
        model.zero_grad()
        losses(model, inputs[row : row + 1], labels[row : row + 1]).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        factor = min(1.0, bound / float(norms[-1]))
        total = [summed + factor * gradient for summed, gradient in zip(total, gradients, strict=True)]
    model.zero_grad()
    return torch.stack(norms), flat(total)


def clipped(model, inputs, labels, bound):
    recorder = ClippedGradients(model, bound)
    with recorder.recording(len(inputs)):
        found = losses(model, inputs, labels)
    norms = recorder.backward(found)
    return norms, flat([parameter.grad for parameter in model.parameters()])


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


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
        (nn.Conv2d(1, 1, 1), "1: the per-example gradients of Conv2d are not known; known: Conv1D, Embedding, LSTM,"),
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layer, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        ClippedGradients(nn.Sequential(nn.Linear(3, 3), layer), 1.0)


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


@pytest.mark.parametrize("name", ["embedding", "lstm, packed in any order", "bert", "tied and shared"])
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


def test_a_batch_that_is_no_whole_groups_is_refused():
    recorder = ClippedGradients(nn.Linear(3, 3), 1.0, group=4)
    with pytest.raises(ValueError, match="6 examples are no whole groups of 4"), recorder.recording(6):
        pass
    with pytest.raises(ValueError, match="a group has at least one example, not 0"):
        ClippedGradients(nn.Linear(3, 3), 1.0, group=0)
