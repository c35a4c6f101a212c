import math

import numpy as np
import pytest
import torch
from federated_cases import federation
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stages.federate.client import Task
from stages.federate.population import Participant
from stages.federate.server import ServerOptimiser, mean_update, normaliser, weight
from stages.federate.settings import ServerSettings
from tests.peers.recorded import FLOWER

START = torch.tensor([1.0, -2.0, 0.5])


def optimiser(size=3, **changes):
    return ServerOptimiser(TypeAdapter(ServerSettings).validate_python(changes), size)


def combined(states, sizes, steps=None, **changes):
    """Return the next weights of a server that takes the mean update of clients of these weights."""
    algorithm = federation(**changes)
    steps = steps or [1] * len(sizes)
    tasks = [
        Task(slot, np.arange(size), made, weight(algorithm, Participant(0, np.arange(size), made)), 0, 0)
        for slot, (size, made) in enumerate(zip(sizes, steps, strict=True))
    ]
    total = sum(task.weight * torch.tensor(state).double() for task, state in zip(tasks, states, strict=True))
    update = mean_update(algorithm, START, total, tasks, sum(sizes))
    return optimiser(kind="mean").step(START, update)


def test_fedavg_weighs_clients_by_their_examples():
    found = combined([[1.0, 2.0, 4.0], [4.0, 8.0, 0.0]], [1, 3])
    assert found.tolist() == [(1 + 3 * 4) / 4, (2 + 3 * 8) / 4, 1.0]


def test_unbiased_weights_are_divided_by_all_examples_and_hajeks_by_their_sum():
    # Of two clients of 2 and 3 examples, drawn with .5 and .25: weights of 4 and 12; there are 10 examples in all.
    clients = [Participant(0, np.arange(2), 1, 1, 0.5), Participant(1, np.arange(3), 1, 1, 0.25)]
    updates = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    expected = {"horvitz_thompson": [0.4, 1.2, 2.0], "hajek": [0.25, 0.75, 1.25], "equal": [0.5, 0.5, 1.5]}
    for weighting, wanted in expected.items():
        algorithm = federation(weighting=weighting)
        tasks = [Task(each.client, each.rows, 1, weight(algorithm, each), 0, 0) for each in clients]
        total = sum(task.weight * (START.double() + update) for task, update in zip(tasks, updates, strict=True))
        assert mean_update(algorithm, START, total, tasks, 10).tolist() == pytest.approx(wanted)


def test_scaffold_weighs_all_clients_alike():
    assert combined([[1.0, 2.0, 4.0], [4.0, 8.0, 0.0]], [1, 3], mechanism="scaffold").tolist() == [2.5, 5.0, 2.0]


# An update is a difference of weights: what is beyond the 16th digit of the server's is lost in it.
WEIGHTS = st.floats(-1e6, 1e6, width=32).filter(lambda weight: abs(weight) > 1e-6)


@given(st.lists(WEIGHTS, min_size=3, max_size=3), st.lists(st.integers(1, 1000), min_size=1))
@settings(deadline=None, max_examples=30)
def test_clients_that_agree_are_averaged_to_the_last_bit(numbers, sizes):
    assert combined([numbers] * len(sizes), sizes).tolist() == numbers


def test_small_clients_are_not_lost_beside_a_large_sum():
    # In float32, adding 1 to 2**25 changes nothing.
    found = combined([[2.0**25, 0.0, 0.0]] + [[1.0, 0.0, 0.0]] * 4, [1] * 5)
    assert found[0].item() == np.float32((2.0**25 + 4) / 5)


def test_a_server_of_learning_rate_one_takes_the_mean():
    update = torch.tensor([0.1, 0.2, 1e-7], dtype=torch.float64)
    mean = optimiser(kind="mean").step(START, update)
    assert torch.equal(optimiser(kind="sgd", learning_rate=1.0).step(START, update), mean)


def test_momentum_adds_up_updates():
    server, weights, buffer = optimiser(kind="sgd", learning_rate=0.5, momentum=0.9), START, torch.zeros(3)
    for number in range(1, 5):
        update = torch.tensor([0.3, -0.1, 0.01 * number])
        buffer = 0.9 * buffer + update
        expected = weights + 0.5 * buffer
        weights = server.step(weights, update.double())
        torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("kind", ["adagrad", "adam", "yogi"])
def test_fedopt_is_algorithm_2_of_reddi_et_al(kind):
    betas = {"beta1": 0.8} | ({} if kind == "adagrad" else {"beta2": 0.95})
    server = optimiser(kind=kind, learning_rate=0.3, tau=0.01, **betas)
    weights, found = START.tolist(), START
    m, v = [0.0] * 3, [0.01**2] * 3
    for number in range(1, 6):
        update = [0.3 / number, -0.1, 0.02 * (-1) ** number]
        for i, d in enumerate(update):
            m[i] = 0.8 * m[i] + 0.2 * d
            if kind == "adagrad":
                v[i] = v[i] + d**2
            elif kind == "yogi":
                v[i] = v[i] - 0.05 * d**2 * math.copysign(1, v[i] - d**2)
            else:
                v[i] = 0.95 * v[i] + 0.05 * d**2
            weights[i] += 0.3 * m[i] / (math.sqrt(v[i]) + 0.01)
        found = server.step(found, torch.tensor(update, dtype=torch.float64))
        torch.testing.assert_close(found, torch.tensor(weights))


@pytest.mark.parametrize("kind", FLOWER["strategies"])
def test_servers_are_those_of_flower(kind):
    given = FLOWER["given"]
    wanted = {
        "mean": [],
        "sgd": ["learning_rate", "momentum"],
        "adagrad": ["learning_rate", "tau"],
        "adam": ["learning_rate", "beta1", "beta2", "tau"],
        "yogi": ["learning_rate", "beta1", "beta2", "tau"],
    }[kind]
    weights = torch.tensor(given["weights"], dtype=torch.float64)
    server = optimiser(len(weights), kind=kind, **{name: given[name] for name in wanted})
    algorithm = federation()
    for added, sizes, after in zip(given["added"], given["examples"], FLOWER["strategies"][kind], strict=True):
        tasks = [
            Task(slot, np.arange(size), 1, weight(algorithm, Participant(0, np.arange(size), 1)), 0, 0)
            for slot, size in enumerate(sizes)
        ]
        total = sum(
            task.weight * (weights + torch.tensor(own, dtype=torch.float64))
            for task, own in zip(tasks, added, strict=True)
        )
        weights = server.step(weights, mean_update(algorithm, weights, total, tasks, sum(sizes)))
        torch.testing.assert_close(weights.tolist(), after, rtol=1e-12, atol=1e-15)


def test_fednova_counts_the_steps_of_plain_sgd():
    assert [normaliser(federation(mechanism="fednova"), steps) for steps in (1, 2, 7)] == [1, 2, 7]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_fednova_has_the_closed_forms_of_momentum_and_of_a_proximal_term(steps):
    momentum = federation(mechanism="fednova", client={"kind": "sgd", "momentum": 0.9})
    expected = (steps - 0.9 * (1 - 0.9**steps) / (1 - 0.9)) / (1 - 0.9)
    assert normaliser(momentum, steps) == pytest.approx(expected)
    proximal = federation(mechanism="fednova", mu=0.5, learning_rate=0.1)
    assert normaliser(proximal, steps) == pytest.approx((1 - 0.95**steps) / 0.05)


def test_fednova_with_steps_alike_is_fedavg():
    states = [[1.0, 2.0, 4.0], [4.0, 8.0, 0.0]]
    torch.testing.assert_close(combined(states, [1, 3], [5, 5], mechanism="fednova"), combined(states, [1, 3]))


def test_fednova_takes_the_mean_of_normalised_updates_as_far_as_the_mean_number_of_steps():
    # Wang et al. 2020, equation 8: one client goes 1 in 1 step, the other 12 in 4 steps, that is 3 a step.
    states = [(START + 1).tolist(), (START - 12).tolist()]
    found = combined(states, [10, 30], [1, 4], mechanism="fednova")
    effective = 0.25 * 1 + 0.75 * 4
    torch.testing.assert_close(found, START + effective * (0.25 * 1 - 0.75 * 3))
