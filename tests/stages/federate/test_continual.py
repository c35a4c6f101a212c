"""Periods: what devices keep, who holds test examples, and what is measured at each end."""

from dataclasses import replace

import federated_cases
import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import SettingError
from stages.common.partitions import HeldOut, held_out, periods
from stages.common.paths import partition_path
from stages.federate.client import Workload
from stages.federate.continual import live
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.observed import Periods, activity, by_device
from stages.federate.population import Dealt
from stages.federate.settings import Continual
from stages.federate.simulation import fit, trained_at_once
from stages.federate.weights import Layout
from stages.fitting.cell import Data
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples

CLIENTS = np.array(list("aabbabab"))
OF = np.array([0, 0, 0, 1, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("kept", "period", "expected"),
    [
        ({}, 0, [0, 1, 2]),
        ({}, 2, [6, 7]),
        ({"retention": 2}, 2, [3, 4, 5, 6, 7]),
        ({"retention": "all"}, 1, [0, 1, 2, 3, 4, 5]),
        # a holds rows 0 1 4 6, b 2 3 5 7.
        ({"retention": "all", "most": 2}, 2, [4, 5, 6, 7]),
        ({"retention": "all", "most": 3}, 1, [0, 1, 2, 3, 4, 5]),
        ({"retention": 2, "most": 1}, 1, [4, 5]),
    ],
    ids=str,
)
def test_devices_keep_the_latest_of_the_periods_that_are_kept(kept, period, expected):
    assert live(Continual(**kept), CLIENTS, OF, period).tolist() == expected


ROWS, ROUNDS = 24, 6


@pytest.fixture
def data(model_settings, texts):
    tables = [texts(n, seed=seed) for n, seed in ((ROWS, 1), (20, 2), (20, 3))]
    # Ids of the splits must differ, as they do in a data set.
    for name, table in zip("abc", tables, strict=True):
        table["example_id"] = [f"{name}{row}" for row in range(len(table))]
    known = vocabulary(tables[0])
    fitted, valid, test = (examples(table, model_settings(), known) for table in tables)
    clients = np.array([f"c{row % 4}" for row in range(ROWS)], object)
    return Data(known, fitted, valid, test, clients)


@pytest.fixture
def halves(data, tmp_path, monkeypatch):
    """Write a natural partition of two periods: the first rows of every split are from the first."""
    monkeypatch.chdir(tmp_path)

    def table(part, split, seed):
        n = len(part)
        who = data.clients if split == "train" else [f"c{row % 5}" for row in range(n)]
        period = np.arange(n) * 2 // n
        return pd.DataFrame(
            {"seed": seed, "example_id": part.example_ids, "client_id": who, "split": split, "period": period}
        )

    path = partition_path("halves")
    path.parent.mkdir(parents=True)
    dealt = pd.concat([table(data.train, "train", 0), table(data.train, "train", 1), table(data.test, "test", None)])
    dealt.astype({"seed": "Int64"}).to_parquet(path)


def settings(**changes):
    return federated_cases.federation(**{"rounds": ROUNDS, "clients_per_round": 4, "continual": {}} | changes)


@pytest.mark.usefixtures("halves")
def test_periods_and_holders_are_those_of_the_partition(data):
    order = np.random.default_rng(0).permutation(ROWS)
    assert (periods("halves", 1, data.train.example_ids[order]) == (np.arange(ROWS) * 2 // ROWS)[order]).all()
    held = held_out("halves", data.test.example_ids)
    assert held.devices.tolist() == [f"c{row % 5}" for row in range(20)]
    assert held.periods.tolist() == [0] * 10 + [1] * 10


def weights(model):
    return torch.cat([tensor.flatten() for tensor in files.trained_state(model).values()])


def part(data, rows):
    return replace(data, train=data.train[rows], clients=data.clients[rows])


@pytest.mark.usefixtures("halves")
def test_a_period_is_trained_on_its_own_examples_from_the_model_of_the_one_before(model_settings, data, monkeypatch):
    ends, measure = [], Periods.end

    def end(self, model):
        ends.append(weights(model))
        measure(self, model)

    monkeypatch.setattr(Periods, "end", end)
    fitted = fit(settings(), model_settings(), data, 0)
    first = fit(settings(rounds=ROUNDS // 2, continual=None), model_settings(), part(data, np.arange(ROWS // 2)), 0)
    assert torch.equal(ends[0], weights(first.model))
    # From there, with the examples of the second period alone, in rounds of the same numbers.
    cell = settings(continual=None)
    workload, server = workload_of(cell, model_settings(), data)
    second = Dealt(data.clients.astype(str), np.arange(ROWS // 2, ROWS))
    layout = Layout(server)
    layout.write(server, ends[0])
    with Engine(workload, 4) as engine:
        federation = Federation(engine, workload, second, 0)
        for number in range(ROUNDS // 2 + 1, ROUNDS + 1):
            federation.round(number)
    assert torch.equal(federation.weights, weights(fitted.model))
    assert torch.equal(ends[1], weights(fitted.model))


def workload_of(cell, model, data):
    server = files.build(model, data.vocabulary.labels, [], 0)
    inputs = server.inputs(data.train.text)
    return Workload(server, inputs, server.objective(data.train), cell, trained_at_once(server)), server


@pytest.mark.usefixtures("halves")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_servers_momentum_ends_with_its_period_if_that_is_asked_for(model_settings, data, momentum):
    server = {"kind": "sgd", "learning_rate": 1.0, "momentum": momentum}
    kept, reset = (
        weights(fit(settings(server=server, continual={"resets_server": resets}), model_settings(), data, 0).model)
        for resets in (False, True)
    )
    # Without momentum the server keeps nothing that could be reset.
    assert torch.equal(kept, reset) == (momentum == 0)


@pytest.mark.usefixtures("halves")
def test_what_is_measured_is_of_the_models_at_the_ends_of_the_periods(model_settings, data):
    fitted = fit(settings(), model_settings(), data, 0)
    measured, model = fitted.measured, fitted.model
    alone = fit(settings(rounds=ROUNDS // 2, continual=None), model_settings(), part(data, np.arange(ROWS // 2)), 0)

    def accuracy(of, rows):
        return of.utility(data.test[rows], data.vocabulary, "test", 0)["test/accuracy"]

    early, late = np.arange(10), np.arange(10, 20)
    learned = accuracy(alone.model, early), accuracy(model, late)
    assert measured["test/accuracy_when_learned/period 1"] == learned[0]
    assert measured["test/accuracy_when_learned/period 2"] == learned[1]
    assert measured["test/accuracy/period 1"] == accuracy(model, early)
    assert measured["test/accuracy_when_learned"].value == pytest.approx(np.mean([each.value for each in learned]))
    assert measured["test/accuracy_when_learned"].n == 20
    assert measured["test/accuracy_backward_transfer"].n == 10
    gained = accuracy(model, early).value - learned[0].value
    assert measured["test/accuracy_backward_transfer"].value == pytest.approx(gained)
    clients = fitted.history[fitted.history["metric"] == "train/clients"]
    assert clients["value"].tolist() == [4] * ROUNDS


def test_the_last_period_has_no_backward_transfer_even_if_no_test_example_is_of_it(model_settings, data):
    models = [files.build(model_settings(), data.vocabulary.labels, [], seed=seed) for seed in range(3)]
    held = HeldOut(np.full(20, None), np.repeat([0, 1], 10))
    ends = Periods(data, held, 3, 0)
    for model in models:
        ends.end(model)
    found = ends.measured(models[-1])

    def accuracy(of, rows):
        return of.utility(data.test[rows], data.vocabulary, "test", 0)["test/accuracy"].value

    early, late = np.arange(10), np.arange(10, 20)
    gains = [accuracy(models[2], rows) - accuracy(models[at], rows) for at, rows in enumerate((early, late))]
    assert found["test/accuracy_backward_transfer"].value == pytest.approx(np.mean(gains))
    assert found["test/accuracy_backward_transfer"].n == 20
    alone = Periods(data, HeldOut(held.devices, np.full(20, 1)), 2, 0)
    for model in models[:2]:
        alone.end(model)
    assert "test/accuracy_backward_transfer" not in alone.measured(models[1])


@pytest.mark.usefixtures("halves")
def test_rounds_that_are_no_multiple_of_the_periods_are_refused(model_settings, data):
    with pytest.raises(SettingError, match="5 are no multiple of the 2 periods") as refused:
        fit(settings(rounds=5), model_settings(), data, 0)
    assert refused.value.args[2] == "give 4, or another multiple"


@pytest.mark.usefixtures("halves")
def test_a_partition_without_periods_is_refused(model_settings, data):
    path = partition_path("halves")
    pd.read_parquet(path).assign(period=0).to_parquet(path)
    with pytest.raises(SettingError, match="partition `halves` has no periods"):
        fit(settings(), model_settings(), data, 0)


def test_devices_are_measured_by_the_examples_they_hold(model_settings, data):
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    held = HeldOut(np.array(["big", "small", "new", "big"] * 5, object), np.zeros(20, np.int64))
    found = by_device(model, data, held, {"big": 30, "small": 3, "least": 1}, 0.9, 0)
    assert {name: value.n for name, value in found.items()} == {
        "test/accuracy/heavy devices": 10,
        "test/accuracy/light devices": 5,
        "test/accuracy/new devices": 5,
    }


def test_activity_shows_in_who_was_drawn_if_it_decides_that():
    counts = np.array([50, 40, 3, 2, 1, 1, 1, 1, 1, 1])
    [(name, found)] = activity(counts * 2, counts, 0.85).items()
    assert (name, found.value, found.n) == ("train/activity_auc", 1.0, 10)
    assert activity(np.full(10, 3), counts, 0.85)["train/activity_auc"].value == 0.5
    somewhat = activity(np.array([9, 3, 4, 1, 5, 2, 1, 2, 1, 3]), counts, 0.85)["train/activity_auc"]
    assert somewhat.value == pytest.approx(13.5 / 16)
    assert somewhat.ci_low < somewhat.value < somewhat.ci_high
    # All are heavy: there is nothing to tell.
    assert activity(np.arange(10), np.full(10, 4), 0.85) == {}


def test_a_guarantee_and_data_that_change_exclude_each_other():
    privacy = {"epsilon": 1.0, "delta": 0.01, "clipping_norm": 0.1}
    with pytest.raises(ValueError, match="no guarantee is built for clients whose data change"):
        settings(mechanism="dp_fedavg", privacy=privacy)


def test_a_group_without_a_test_example_is_left_out(model_settings, data):
    model = files.build(model_settings(), data.vocabulary.labels, [], seed=0)
    held = HeldOut(np.array(["big"] * 20, object), np.zeros(20, np.int64))
    found = by_device(model, data, held, {"big": 30, "small": 3}, 0.9, 0)
    assert list(found) == ["test/accuracy/heavy devices"]
