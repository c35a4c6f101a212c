from dataclasses import replace

import federated_cases
import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stages.common.errors import SettingError
from stages.common.streams import torch_seed
from stages.federate.selection import select
from stages.federate.simulation import fit, trained_at_once
from stages.fitting.cell import Data
from stages.models import files
from stages.models.evaluate import predict
from stages.models.examples import vocabulary
from stages.models.kinds import examples

TEXTS = 24


def federation(**changes):
    """Return settings of one step of one client with all examples, but for the changes."""
    one_step = {"batch_size": TEXTS, "learning_rate": 0.5, "clients_per_round": 1, "local_epochs": 1}
    return federated_cases.federation(**one_step | changes)


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
    settings = federation(clients_per_round=len(sizes))
    fitted = fit(settings, model_settings(), replace(data, clients=dealt(sizes)), 0)
    torch.testing.assert_close(weights(fitted.model), central)


def test_one_client_that_holds_all_trains_as_if_alone(model_settings, data):
    settings = federation(local_epochs=3, batch_size=7)
    fitted = fit(settings, model_settings(), data, 5)
    torch.testing.assert_close(weights(fitted.model), averaged(settings, model_settings(), data, 5))


def averaged(settings, model, data, seed):
    """Return the weights after federated averaging by a plain loop (McMahan et al. 2017, algorithm 1)."""
    server = files.build(model, data.vocabulary.labels, [], seed)
    inputs, objective = server.inputs(data.train.text), server.objective(data.train)
    names, owner = np.unique(data.clients.astype(str), return_inverse=True)
    parameters = [parameter for parameter in server.parameters() if parameter.requires_grad]
    for number in range(1, settings.rounds + 1):
        begun, cohort = weights(server), select(len(names), settings.clients_per_round, seed, number)
        total, seen = torch.zeros(len(begun), dtype=torch.float64), 0
        for client in cohort:
            torch.nn.utils.vector_to_parameters(begun.clone(), parameters)
            rows = torch.from_numpy(np.flatnonzero(owner == client))
            draws = torch.Generator().manual_seed(torch_seed(seed, "client order", number, int(client)))
            for _ in range(settings.local_epochs):
                for batch in rows[torch.randperm(len(rows), generator=draws)].split(settings.batch_size):
                    loss = objective(server(*(tensor[batch] for tensor in inputs)), batch).mean()
                    gradients = torch.autograd.grad(loss, parameters)
                    with torch.no_grad():
                        for parameter, gradient in zip(parameters, gradients, strict=True):
                            parameter.sub_(gradient, alpha=settings.learning_rate)
            total += weights(server).double() * len(rows)
            seen += len(rows)
        torch.nn.utils.vector_to_parameters((total / seen).float(), parameters)
    return weights(server)


@pytest.mark.parametrize(("head", "tolerance"), [("bilstm", 0), ("mean", 1e-6)], ids=["one by one", "at once"])
def test_federated_averaging_is_that_of_a_plain_loop(model_settings, data, head, tolerance):
    # To the last bit where clients are trained one by one, since sums in float64 forget their order when rounded.
    data = replace(data, clients=dealt([1, 2, 3, 4, 5, 9]))
    settings = federation(clients_per_round=4, rounds=3, local_epochs=2, batch_size=3)
    fitted = fit(settings, model_settings(head=head), data, 0)
    expected = averaged(settings, model_settings(head=head), data, 0)
    torch.testing.assert_close(weights(fitted.model), expected, rtol=tolerance, atol=tolerance)


def test_the_cohort_does_not_depend_on_the_order_of_the_rows(model_settings, data):
    data = replace(data, clients=dealt([1, 2, 3, 4, 5, 9]))
    order = np.random.default_rng(0).permutation(TEXTS)
    turned = replace(data, train=data.train[order], clients=data.clients[order])
    settings = federation(clients_per_round=2, rounds=4)
    one, other = (fit(settings, model_settings(), some, 0) for some in (data, turned))
    torch.testing.assert_close(weights(one.model), weights(other.model))


def test_a_delta_that_allows_to_publish_a_client_is_warned_of_once(model_settings, data, capsys):
    privacy = {"epsilon": 1.0, "delta": 0.06, "clipping_norm": 0.1}
    settings = federation(mechanism="dp_fedavg", privacy=privacy, seeds=[0, 1], clients_per_round=10)
    data = replace(data, clients=dealt([1] * 18 + [6]))
    for seed in settings.seeds:
        fit(settings, model_settings(), data, seed)
    warning = "privacy.delta: 0.06 is no less than one in the 19 clients; give one well below 1/19 = 0.0526"
    assert capsys.readouterr().err == f"warning: {warning}\n"


def test_a_cohort_larger_than_the_population_is_refused(model_settings, data):
    with pytest.raises(SettingError, match="4 is more than the 3 clients of the partition"):
        fit(federation(clients_per_round=4), model_settings(), replace(data, clients=dealt([6, 6, 12])), 0)


@pytest.mark.parametrize("model", [{}, {"head": "bilstm", "dropout": 0.3}], ids=["at once", "one by one"])
def test_the_number_of_processes_changes_nothing(model_settings, data, model):
    data = replace(data, clients=dealt([1, 2, 3, 4, 5, 9]))
    settings = federation(clients_per_round=5, rounds=2, local_epochs=2, batch_size=3)
    one, other = (fit(settings, model_settings(**model), data, 0, processes) for processes in (1, 2))
    assert torch.equal(weights(one.model), weights(other.model))
    assert one.history.equals(other.history)


def test_clients_outside_the_cohort_have_no_part_in_a_round(model_settings, data):
    clients = dealt([8, 8, 8])
    settings = federation(clients_per_round=1)
    fitted = fit(settings, model_settings(), replace(data, clients=clients), 0)
    alone = [
        fit(settings, model_settings(), replace(data, train=data.train[rows], clients=clients[rows]), 0)
        for rows in (np.flatnonzero(clients == name) for name in ("c0", "c1", "c2"))
    ]
    assert [np.allclose(weights(fitted.model), weights(one.model)) for one in alone].count(True) == 1


def test_the_history_has_the_metrics_of_every_round(model_settings, data):
    history = fit(federation(rounds=3), model_settings(), replace(data, clients=dealt([4, 20])), 0).history
    assert list(history.columns) == ["step", "metric", "value"]
    assert list(zip(history["step"], history["metric"], strict=True)) == [
        (number, metric)
        for number in (1, 2, 3)
        for metric in ("train/loss", "valid/accuracy", "train/bytes_up", "train/bytes_down")
    ]


def test_with_secure_aggregation_the_history_has_the_share_of_values_that_were_clipped(model_settings, data):
    settings = federation(rounds=2, clients_per_round=3, secure_aggregation={"clip": 1e-3})
    history = fit(settings, model_settings(), replace(data, clients=dealt([4, 8, 12])), 0).history
    clipped = history[history["metric"] == "train/clipped_values"]
    assert clipped["step"].tolist() == [1, 2]
    assert clipped["value"].between(0, 1, inclusive="neither").all()


def test_a_round_that_all_dropped_out_of_has_no_loss(model_settings, data):
    settings = federation(rounds=3, participation={"drop_out": 0.999999})
    fitted = fit(settings, model_settings(), data, 0)
    assert set(fitted.history["metric"]) == {"valid/accuracy", "train/bytes_up", "train/bytes_down"}
    assert fitted.measured["train/bytes_up"].value == 0


def test_the_last_accuracy_of_the_history_is_that_of_the_model(model_settings, data):
    fitted = fit(federation(rounds=2), model_settings(), data, 0)
    right = predict(fitted.model, data.valid).labels == data.valid.labels.numpy()
    history = fitted.history[fitted.history["metric"] == "valid/accuracy"]
    assert history["value"].iloc[-1] == right.mean()


def test_the_client_loss_is_weighted_by_the_clients_examples(model_settings, data):
    # Without learning, it is the mean loss of all texts.
    history = fit(
        federation(learning_rate=1e-30, batch_size=2, local_epochs=2, clients_per_round=3),
        model_settings(),
        replace(data, clients=dealt([1, 3, 20])),
        0,
    ).history
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    losses = model.objective(data.train)(model(*model.inputs(data.train.text)), torch.arange(TEXTS))
    assert history["value"].iloc[0] == pytest.approx(losses.mean().item())


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
    after = fit(federation(clients_per_round=2), settings, data, 0).model
    moved = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(files.trained_state(after))


def test_parts_that_are_frozen_are_not_trained_and_not_sent(model_settings, data, texts, bert):
    model = model_settings(encoder=bert | {"trained_layers": 2, "trained_embeddings": True})
    read = examples(texts(TEXTS, seed=1), model, data.vocabulary)
    data = replace(data, train=read, valid=read, test=read, clients=dealt([8, 16]))
    before = files.build(model, data.vocabulary.labels, [], seed=0)
    parts = ["embeddings", "layer.0"]
    settings = federation(clients_per_round=2, rounds=2)
    whole, found = (fit(each, model, data, 0) for each in (settings, settings.model_copy(update={"freeze": parts})))
    state = found.model.state_dict()
    moved = {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, state[name])}
    trained = set(files.trained_state(before))
    assert moved == {name for name in trained if "embeddings" not in name and "layer.0" not in name}
    # It is saved whole, and as one it is counted.
    assert set(files.trained_state(found.model)) == trained
    left = sum(before.state_dict()[name].numel() for name in moved)
    assert found.measured["train/parameters"].value == left
    assert found.measured["train/bytes_up"].value == left * 4 * 2 * 2
    share = left / whole.measured["train/parameters"].value
    for metric in ("train/bytes_up", "train/bytes_down"):
        assert found.measured[metric].value == pytest.approx(share * whole.measured[metric].value)


def test_federated_averaging_guarantees_nothing(model_settings, data):
    privacy = fit(federation(), model_settings(), data, 0).privacy
    assert privacy == {"epsilon": None, "reason": "federated averaging alone is no privacy mechanism"}


@pytest.mark.parametrize(("dropout", "at_once"), [(0.0, True), (0.1, False)])
def test_clients_of_a_model_with_dropout_anywhere_are_trained_one_by_one(dropout, at_once):
    # As of a frozen encoder, whose own dropout the model's settings do not name.
    encoder = nn.Sequential(nn.Linear(4, 4), nn.Dropout(dropout)).requires_grad_(False)
    assert trained_at_once(nn.Sequential(encoder, nn.Linear(4, 2))) is at_once


@pytest.mark.parametrize(("dropout", "at_once"), [(0.0, True), (0.3, False)])
def test_attention_that_draws_dropout_by_a_function_is_found(dropout, at_once):
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    network = LlamaForCausalLM(LlamaConfig(attention_dropout=dropout, **sizes)).requires_grad_(False)
    network.lm_head.requires_grad_(True)
    assert trained_at_once(network) is at_once
