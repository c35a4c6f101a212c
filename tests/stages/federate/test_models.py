"""Federations of other models than classifiers: they train as they do centrally, and are judged by their loss."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stages.federate.client import Workload
from stages.federate.simulation import fit, trained_at_once
from stages.fitting.cell import Data
from stages.models import files
from stages.models.evaluate import mean_loss
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from tests.stages.federate.federated_cases import federation

ROWS = 24


KINDS = ["span", "bytes", "pretrained", "words", "writer of bytes", "pretrained writer"]


@pytest.fixture(params=KINDS)
def made(request, prepared):
    """Return settings of a model, and data of which one client holds all."""
    return prepared(request.param)


@pytest.fixture
def prepared(span_settings, byte_settings, language_settings, word_settings, writer_settings, questions, texts, pairs):
    whole = [byte_settings, language_settings(), word_settings()]
    models = [span_settings(), *whole, *map(writer_settings, ["bytes", "pretrained"])]
    settings = dict(zip(KINDS, models, strict=True))
    sources = dict(zip(KINDS, [questions, texts, texts, texts, pairs, pairs], strict=True))

    def prepare(kind):
        sizes = ((ROWS, 1), (9, 2), (9, 3))
        parts = [examples(sources[kind](n, seed=seed), settings[kind], Vocabulary([], [])) for n, seed in sizes]
        return settings[kind], Data(Vocabulary([], []), *parts, clients=np.full(ROWS, "c", object))

    return prepare


def one_step(**changes):
    usual = {"batch_size": ROWS, "learning_rate": 0.5, "clients_per_round": 1, "local_epochs": 1}
    return federation(**usual | changes)


def weights(model):
    return torch.cat([tensor.flatten() for tensor in files.trained_state(model).values()])


def test_one_step_of_one_client_is_the_central_step(made):
    settings, data = made
    model = files.build(settings, [], [], seed=0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = model.objective(data.train)(model(*model.inputs(data.train.text)), torch.arange(ROWS)).mean()
    gradients = torch.autograd.grad(loss, parameters)
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(parameters, gradients, strict=True)]).detach()
    fitted = fit(one_step(), settings, data, 0)
    torch.testing.assert_close(weights(fitted.model), expected)
    assert not torch.equal(weights(fitted.model), weights(model))


def test_one_step_of_several_clients_is_the_central_step(made):
    settings, data = made
    alone = fit(one_step(), settings, data, 0)
    shared = replace(data, clients=np.repeat(["a", "b", "c"], 8).astype(object))
    torch.testing.assert_close(
        weights(fit(one_step(clients_per_round=3), settings, shared, 0).model), weights(alone.model)
    )


def test_every_round_has_the_loss_on_validation_data(made):
    settings, data = made
    fitted = fit(one_step(rounds=3, client={"kind": "adamw"}, learning_rate=0.01), settings, data, 0)
    found = fitted.history.set_index("metric")["value"]
    assert set(found.index) == {"train/loss", "valid/loss", "train/bytes_up", "train/bytes_down"}
    assert found["valid/loss"].iloc[-1] == pytest.approx(
        mean_loss(fitted.model, data.valid, fitted.model.objective(data.valid)), rel=1e-5
    )
    assert found["train/loss"].iloc[-1] < found["train/loss"].iloc[0]


@pytest.mark.parametrize("kind", ["span", "words", "pretrained writer"])
def test_processes_change_no_bit(kind, prepared):
    settings, data = prepared(kind)
    data = replace(data, clients=np.repeat(["a", "b", "c"], 8).astype(object))
    one, two = (fit(one_step(clients_per_round=3, rounds=2), settings, data, 0, processes=n) for n in (1, 2))
    assert torch.equal(weights(one.model), weights(two.model))
    pd.testing.assert_frame_equal(one.history, two.history)


def test_what_is_sent_to_processes_survives_it(made):
    settings, data = made
    model = files.build(settings, [], [], seed=0)
    workload = Workload(model, model.inputs(data.train.text), model.objective(data.train), one_step(), False)
    again = pickle.loads(pickle.dumps(workload))
    rows = torch.tensor([2, 0])
    found = [each.objective(each.model(*(tensor[rows] for tensor in each.inputs)), rows) for each in (workload, again)]
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", ["bytes", "pretrained"])
def test_a_writer_learns_with_one_client_a_round(kind, writer_settings, pairs):
    """FedML-AI/FedML#476: ROUGE stayed the same from round to round."""
    settings = writer_settings(kind, adapters={"rank": 8, "alpha": 32.0, "layers": 2})
    parts = [examples(pairs(ROWS, seed=seed).assign(target="lu ba"), settings, Vocabulary([], [])) for seed in range(3)]
    data = Data(Vocabulary([], []), *parts, clients=np.repeat(["a", "b", "c"], 8).astype(object))
    learning = {"client": {"kind": "adamw"}, "learning_rate": 0.02, "batch_size": 8, "local_epochs": 5}
    fitted = fit(one_step(rounds=12, **learning), settings, data, 0)
    losses = fitted.history.set_index("metric")["value"]["valid/loss"]
    assert losses.is_unique
    assert losses.iloc[-1] < losses.iloc[0]
    before, after = (
        model.utility(data.test, data.vocabulary, "test", 0)["test/rouge1_f"].value
        for model in (files.build(settings, [], [], 0), fitted.model)
    )
    assert after > before + 0.3


def test_clients_of_adapters_are_trained_at_once(language_settings, byte_settings, word_settings, span_settings):
    models = (language_settings(), byte_settings, word_settings(), span_settings())
    once = [trained_at_once(files.build(each, [], [], 0)) for each in models]
    assert once == [True, False, False, False]
