from dataclasses import replace

import numpy as np
import pytest
import torch
from federated_cases import EXAMPLES, LABELS, WIDTH, start, workload
from torch import nn

from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.population import Dealt
from stages.federate.weights import Layout

CLIENTS = 6


def federation_of(work, sizes=(5, 10, 15, 20, 30, 40), seed=0):
    """Return a federation of clients that hold the examples in turn, trained in this process."""
    engine = Engine(work, work.settings.clients_per_round)
    return Federation(engine, work, Dealt(np.repeat([f"c{client}" for client in range(len(sizes))], sizes)), seed)


def central_step(work):
    """Return the weights after one step of SGD on the mean loss of all examples."""
    rows = torch.arange(EXAMPLES)
    loss = work.objective(work.model(*work.inputs), rows).mean()
    gradients = torch.autograd.grad(loss, list(work.model.parameters()))
    return start(work) - work.settings.learning_rate * torch.cat([gradient.flatten() for gradient in gradients])


FULL_STEP = {"batch_size": EXAMPLES, "local_epochs": 1}


@pytest.mark.parametrize("mechanism", [{}, {"mechanism": "fedprox", "mu": 1.0}, {"mechanism": "fednova"}], ids=str)
@pytest.mark.parametrize("sizes", [[EXAMPLES], [20] * 6, [5, 10, 15, 20, 30, 40]], ids=str)
def test_a_full_batch_step_of_all_clients_is_the_central_step(mechanism, sizes):
    work = workload(**FULL_STEP, **mechanism, clients_per_round=len(sizes))
    federation = federation_of(work, sizes)
    federation.round(1)
    torch.testing.assert_close(federation.weights, central_step(work))


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
def test_power_of_choice_trains_those_of_its_candidates_that_lose_most_under_the_servers_weights(vectorised):
    rule = {"rule": "power_of_choice", "candidates": 6}
    work = workload(clients_per_round=2, selection=rule, vectorised=vectorised)
    federation = federation_of(work)
    for number in range(1, 4):
        inputs = work.inputs[0]
        Layout(work.model).write(work.model, federation.weights)
        losses = work.objective(work.model(inputs), torch.arange(EXAMPLES)).detach()
        means = [float(losses[federation._population.rows(client)].mean()) for client in range(CLIENTS)]
        before = federation.drawn.copy()
        made = federation.round(number)
        assert np.flatnonzero(federation.drawn - before).tolist() == sorted(np.argsort(means)[-2:])
        # All six took the weights, and two sent theirs.
        assert (made.bytes_down, made.bytes_up) == (6 * federation.weights.nbytes, 2 * federation.weights.nbytes)


def test_oort_learns_of_those_that_report_what_they_lose():
    work = workload(clients_per_round=2, selection={"rule": "oort"}, participation={"drop_out": 0.4})
    federation = federation_of(work)
    for number in range(1, 30):
        federation.round(number)
    drawn_by = federation._selector
    assert (drawn_by._utilities[drawn_by._seen > 0] > 0).all()
    assert (drawn_by._seen > 0).all()
    # Some were drawn and did not report: their utility is of a round before.
    assert drawn_by._selections.sum() == federation.drawn.sum() == 58


def test_so_is_that_of_scaffold_with_clients_alike():
    work = workload(**FULL_STEP, mechanism="scaffold", clients_per_round=6)
    federation = federation_of(work, [20] * 6)
    federation.round(1)
    torch.testing.assert_close(federation.weights, central_step(work))


def test_scaffolds_control_variates_sum_to_zero():
    work = workload(mechanism="scaffold", clients_per_round=3, participation={"drop_out": 0.2})
    federation = federation_of(work)
    for number in range(1, 8):
        federation.round(number)
        controls = federation._controls
        # Those of clients that never took part are zero.
        differences = sum(control.double() for control in controls.clients.values()) - CLIENTS * controls.server
        assert controls.server.abs().max() > 0.01
        assert differences.abs().max() < 1e-12


def test_a_control_variate_is_the_mean_gradient_along_the_clients_way():
    # Option II, first round: c_i = (x - y_i) / (K eta), which of one step is the gradient itself.
    work = workload(**FULL_STEP, mechanism="scaffold", clients_per_round=1)
    federation = federation_of(work, [EXAMPLES])
    before = federation.weights
    federation.round(1)
    gradient = (before - central_step(work)) / work.settings.learning_rate
    torch.testing.assert_close(federation._controls.clients[0], gradient, rtol=1e-4, atol=1e-5)


def test_scaffold_does_not_drift_where_fedavg_does():
    # Karimireddy et al. 2020: with unlike clients and many local steps, FedAvg stops away from the optimum.
    slope = {}
    for mechanism in ("fedavg", "scaffold"):
        work = workload(mechanism=mechanism, clients_per_round=6, batch_size=EXAMPLES, local_epochs=20)
        work = replace(work, model=nn.Linear(WIDTH, LABELS))
        by_label = torch.argsort(work.objective.labels, stable=True)
        work.inputs[0].copy_(work.inputs[0][by_label])
        work.objective.labels = (work.objective.labels[by_label] + torch.arange(EXAMPLES) % 2) % LABELS
        federation = federation_of(work, [20] * 6)
        for number in range(1, 61):
            federation.round(number)
        torch.nn.utils.vector_to_parameters(federation.weights, work.model.parameters())
        slope[mechanism] = (central_step(work) - start(work)).norm().item()
    assert slope["scaffold"] < slope["fedavg"] / 5


def test_a_round_without_a_report_changes_nothing_but_what_was_sent_down():
    work = workload(clients_per_round=2, participation={"drop_out": 0.999999})
    federation = federation_of(work)
    before = federation.weights.clone()
    made = federation.round(1)
    assert torch.equal(federation.weights, before)
    assert (made.loss, made.bytes_up, made.bytes_down) == (None, 0, 2 * before.nbytes)


@pytest.mark.parametrize(("mechanism", "times"), [("fedavg", 1), ("scaffold", 2)])
def test_bytes_are_those_of_the_weights_of_scaffold_twice(mechanism, times):
    work = workload(mechanism=mechanism, clients_per_round=5, participation={"drop_out": 0.5})
    federation = federation_of(work)
    values = sum(parameter.numel() for parameter in work.model.parameters())
    made = [federation.round(number) for number in range(1, 11)]
    assert {each.bytes_down for each in made} == {5 * values * 4 * times}
    assert all(each.bytes_up % (values * 4 * times) == 0 for each in made)
    assert 0 < sum(each.bytes_up for each in made) < sum(each.bytes_down for each in made)


def test_adaptive_servers_learn():
    for server in ({"kind": "adam", "learning_rate": 0.03}, {"kind": "yogi", "learning_rate": 0.03}):
        work = workload(server=server, clients_per_round=3)
        federation = federation_of(work)
        losses = [federation.round(number).loss for number in range(1, 31)]
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05
