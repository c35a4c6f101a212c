"""Models and batches of every kind of layer that is known, and their clipped gradients by a loop over examples."""

import importlib

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from stages.models.characters import Characters
from stages.models.crf import Chain, log_likelihoods
from stages.models.encoders import IGNORED_TAG
from stages.models.recurrent import LSTM
from stages.models.settings import CharacterSettings
from stages.privacy.clipping import ClippedGradients
from stages.privacy.normalisation import RMS_NORMS

CHARACTERS = CharacterSettings(dimension=4, filters=5, kernel=3)


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

    def __init__(self, packed, layers=1, both=True, in_order=True, kind=nn.LSTM, **options):
        super().__init__()
        self.packed, self.in_order = packed, in_order
        self.lstm = kind(6, 5, layers, bidirectional=both, **options)
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


class Again(nn.Module):
    """An LSTM that is run twice, over texts in any order."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 3, bidirectional=True, batch_first=True)
        self.scores = nn.Linear(6, 3)

    def forward(self, values):
        lengths = (values != 0).any(2).sum(1)
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        twice = self.lstm(self.lstm(packed)[0])[0]
        return self.scores(pad_packed_sequence(twice, batch_first=True, total_length=values.shape[1])[0].sum(1))


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


class Normalised(nn.Module):
    """A norm whose weight is not one; over the last dimension, or over the last two."""

    def __init__(self, norm):
        super().__init__()
        self.inner, self.norm, self.scores = nn.Linear(6, 6), norm, nn.Linear(6, 3)
        nn.init.normal_(norm.weight)

    def forward(self, values):
        return self.scores(torch.tanh(self.norm(self.inner(values)))).sum(1)


class Convolved(nn.Module):
    """A convolution over the positions of what another layer made."""

    def __init__(self, outputs=8, kernel=3, **options):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.convolution = nn.Conv1d(6, outputs, kernel, **options)
        self.scores = nn.Linear(outputs, 3)

    def forward(self, values):
        channels = torch.tanh(self.inner(values)).transpose(1, 2)
        return self.scores(torch.relu(self.convolution(channels)).mean(2))


class Chained(nn.Module):
    """A chain of three tags, a text's own number of words long; scored by sequences that differ in one tag."""

    def __init__(self):
        super().__init__()
        self.inner, self.chain = nn.Linear(6, 3), Chain(3)
        for parameter in self.chain.parameters():
            nn.init.normal_(parameter)

    def forward(self, values):
        emissions, chain = self.inner(values), self.chain()
        tags = torch.arange(values.shape[1]).expand(values.shape[:2]) % 3
        tags = tags.where((values != 0).any(2), IGNORED_TAG)
        others = [tags.where(tags != 0, first) for first in range(3)]
        return torch.stack([log_likelihoods(emissions, chain, each) for each in others], dim=1)


class Spelt(nn.Module):
    """Characters of words: a table of few rows that many positions share."""

    def __init__(self):
        super().__init__()
        self.characters = Characters(["a", "ba", "abc", "caba", "bb", "cc", "bcabcab", "ca"], CHARACTERS, 0.0)
        self.scores = nn.Linear(5, 3)

    def forward(self, ids):
        return self.scores(self.characters(ids).sum(1))


class Llama(nn.Module):
    """Rotary positions, grouped queries, padding masked; tied for language modelling, or a classifier."""

    def __init__(self, kind, **options):
        super().__init__()
        self.model = kind(
            LlamaConfig(
                vocab_size=9,
                hidden_size=8,
                intermediate_size=12,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=16,
                pad_token_id=0,
                **options,
            )
        )

    def forward(self, ids):
        scores = self.model(input_ids=ids, attention_mask=(ids != 0).long()).logits
        return scores if scores.dim() == 2 else scores.mean(1)


def transformers_norm(full_name):
    module, _, kind = full_name.rpartition(".")
    return getattr(importlib.import_module(module), kind)(6)


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
    "lstm, that of the models": (lambda: Recurrent(packed=True, kind=LSTM, batch_first=True), values),
    "lstm, one direction, no bias": (lambda: Recurrent(packed=False, both=False, bias=False), values),
    "lstm, used twice": (Again, lambda n: values(n).flip(0)),
    "bert": (Bert, ids),
    "gpt2": (Gpt2, ids),
    "llama, tied": (lambda: Llama(LlamaForCausalLM, tie_word_embeddings=True), ids),
    "llama, with biases": (lambda: Llama(LlamaForCausalLM, attention_bias=True, mlp_bias=True), ids),
    "llama, classifier": (lambda: Llama(LlamaForSequenceClassification, num_labels=3), ids),
    "rms norm": (lambda: Normalised(nn.RMSNorm(6)), values),
    "rms norm, its own epsilon": (lambda: Normalised(nn.RMSNorm(6, eps=0.1)), values),
    "rms norm, two dimensions": (lambda: Normalised(nn.RMSNorm((4, 6))), values),
    **{name.rpartition(".")[2]: (lambda name=name: Normalised(transformers_norm(name)), values) for name in RMS_NORMS},
    "chain": (Chained, values),
    "characters": (Spelt, ids),
    "convolution": (Convolved, lambda n: values(n, 9)),
    "convolution, wide": (lambda: Convolved(40, 5), lambda n: values(n, 9)),
    "convolution, no bias, padded, strided": (
        lambda: Convolved(bias=False, padding=2, stride=2),
        lambda n: values(n, 9),
    ),
    "convolution, same padding, dilated": (
        lambda: Convolved(kernel=4, padding="same", dilation=2),
        lambda n: values(n, 9),
    ),
    "convolution, stride that leaves a rest": (lambda: Convolved(kernel=2, stride=3), lambda n: values(n, 9)),
    "convolution, groups": (
        lambda: Convolved(9, groups=3, padding=1, stride=2, dilation=2),
        lambda n: values(n, 9),
    ),
    "convolution, by channel": (lambda: Convolved(12, groups=6, bias=False), lambda n: values(n, 9)),
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
