from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.common.streams import torch_seed
from stages.federate.client import update
from stages.federate.settings import FederateSettings
from stages.federate.simulation import fit
from stages.fitting.cell import Data
from stages.models import files
from stages.models.evaluate import predict
from stages.models.examples import examples, vocabulary

TEXTS = 24


def federation(**changes):
    usual = {
        "dataset": "trees",
        "model": "mean",
        "seeds": [0],
        "partition": "halves",
        "train_on": "train",
        "mechanism": "fedavg",
        "batch_size": TEXTS,
        "learning_rate": 0.5,
        "rounds": 1,
        "clients_per_round": 100,
        "local_epochs": 1,
    }
    return FederateSettings.model_validate(usual | changes)


def dealt(sizes):
    """Return client names, so many rows each, in an order that is not sorted."""
    return np.array([f"c{client}" for client, size in reversed(list(enumerate(sizes))) for _ in range(size)], object)


@pytest.fixture
def data(model_settings, texts):
    tables = [texts(n, seed=seed) for n, seed in ((TEXTS, 1), (20, 2), (20, 3))]
    known = vocabulary(tables[0])
    fitted, valid, test = (examples(table, model_settings(), known) for table in tables)
    return Data(known, fitted, valid, test, dealt([TEXTS]))


def weights(model):
    return torch.cat([tensor.flatten() for tensor in files.trained_state(model).values()])


@pytest.fixture
def central(model_settings, data):
    """The weights after one step of SGD on the mean loss of all texts, by plain autograd."""
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = model.objective(data.train)(model(*model.inputs(data.train.text)), torch.arange(TEXTS)).mean()
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(0.5 * gradient)
    return weights(model)


@pytest.mark.parametrize("sizes", [[TEXTS], [6, 6, 6, 6], [1, 2, 3, 18], [1] * TEXTS], ids=str)
def test_one_full_local_step_of_all_clients_is_the_central_step(model_settings, data, central, sizes):
    fitted = fit(federation(), model_settings(), replace(data, clients=dealt(sizes)), 0)
    torch.testing.assert_close(weights(fitted.model), central)


def test_one_client_that_holds_all_trains_as_if_alone(model_settings, data):
    settings = federation(local_epochs=3, batch_size=7)
    fitted = fit(settings, model_settings(), data, 5)
    alone = files.build(model_settings(), data.vocabulary.labels, [], seed=5).train()
    order = torch.Generator().manual_seed(torch_seed(5, "client order", 1, 0))
    objective = alone.objective(data.train)
    update(alone, alone.inputs(data.train.text), torch.arange(TEXTS), objective, settings, order)
    assert torch.equal(weights(fitted.model), weights(alone))


def test_the_cohort_does_not_depend_on_the_order_of_the_rows(model_settings, data):
    data = replace(data, clients=dealt([1, 2, 3, 4, 5, 9]))
    order = np.random.default_rng(0).permutation(TEXTS)
    turned = replace(data, train=data.train[order], clients=data.clients[order])
    settings = federation(clients_per_round=2, rounds=4)
    one, other = (fit(settings, model_settings(), some, 0) for some in (data, turned))
    torch.testing.assert_close(weights(one.model), weights(other.model))


def test_more_clients_per_round_than_there_are_is_all_of_them(model_settings, data):
    data = replace(data, clients=dealt([6, 6, 12]))
    some, all_ = (fit(federation(clients_per_round=n, rounds=3), model_settings(), data, 0) for n in (3, 4))
    assert torch.equal(weights(some.model), weights(all_.model))


def test_clients_outside_the_cohort_have_no_part_in_a_round(model_settings, data):
    clients = dealt([8, 8, 8])
    settings = federation(clients_per_round=1)
    fitted = fit(settings, model_settings(), replace(data, clients=clients), 0)
    alone = [
        fit(settings, model_settings(), replace(data, train=data.train[rows], clients=clients[rows]), 0)
        for rows in (np.flatnonzero(clients == name) for name in ("c0", "c1", "c2"))
    ]
    assert [np.allclose(weights(fitted.model), weights(one.model)) for one in alone].count(True) == 1


def test_the_history_has_both_metrics_of_every_round(model_settings, data):
    history = fit(federation(rounds=3), model_settings(), replace(data, clients=dealt([4, 20])), 0).history
    assert list(history.columns) == ["step", "metric", "value"]
    assert list(zip(history["step"], history["metric"], strict=True)) == [
        (number, metric) for number in (1, 2, 3) for metric in ("train/loss", "valid/accuracy")
    ]


def test_the_last_accuracy_of_the_history_is_that_of_the_model(model_settings, data):
    fitted = fit(federation(rounds=2), model_settings(), data, 0)
    right = predict(fitted.model, data.valid).labels == data.valid.labels.numpy()
    assert fitted.history["value"].iloc[-1] == right.mean()


def test_the_client_loss_is_weighted_by_the_clients_examples(model_settings, data):
    # Without learning, it is the mean loss of all texts.
    history = fit(
        federation(learning_rate=1e-30, batch_size=2, local_epochs=2),
        model_settings(),
        replace(data, clients=dealt([1, 3, 20])),
        0,
    ).history
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    losses = model.objective(data.train)(model(*model.inputs(data.train.text)), torch.arange(TEXTS))
    assert history["value"].iloc[0] == pytest.approx(losses.mean().item())


def test_each_local_epoch_sees_every_row_of_the_client_once(model_settings, data):
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    objective, seen = model.objective(data.train), []

    def watching(scores, rows):
        seen.append(rows)
        return objective(scores, rows)

    rows = torch.tensor([2, 3, 5, 7, 11])
    settings = federation(batch_size=2, local_epochs=2)
    update(model, model.inputs(data.train.text), rows, watching, settings, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in seen] == [2, 2, 1, 2, 2, 1]
    assert [sorted(torch.cat(epoch).tolist()) for epoch in (seen[:3], seen[3:])] == [rows.tolist()] * 2


def test_the_same_seed_is_bit_identical_and_another_is_not(model_settings, data):
    data, model = replace(data, clients=dealt([4, 8, 12])), model_settings(dropout=0.3)
    settings = federation(clients_per_round=2, rounds=2, local_epochs=2, batch_size=3)
    one, again, other = (fit(settings, model, data, seed) for seed in (1, 1, 2))
    assert torch.equal(weights(one.model), weights(again.model))
    assert one.history.equals(again.history)
    assert not torch.equal(weights(one.model), weights(other.model))


def test_frozen_layers_stay_as_they_came(model_settings, data, texts, bert):
    settings = model_settings(encoder=bert)
    fitted = examples(texts(TEXTS, seed=1), settings, data.vocabulary)
    data = replace(data, train=fitted, valid=fitted, test=fitted, clients=dealt([8, 16]))
    before = files.build(settings, data.vocabulary.labels, [], seed=0).state_dict()
    after = fit(federation(), settings, data, 0).model
    moved = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(files.trained_state(after))


def test_federated_averaging_guarantees_nothing(model_settings, data):
    privacy = fit(federation(), model_settings(), data, 0).privacy
    assert privacy == {"epsilon": None, "reason": "federated averaging alone is no privacy mechanism"}
