from dataclasses import replace

import numpy as np
import pytest
import torch
from federated_cases import LABELS, WIDTH, start, tasks, workload
from torch import nn

from stages.federate import factored
from stages.federate.client import summed, update
from stages.federate.factored import Factored
from stages.federate.stacked import layers

SIZES = [23, 17, 9, 4, 1]
RATE = 0.1


def wide(bias=True):
    """Return a network whose first layer has fewer rows than weights, and whose last has more."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(WIDTH, 300, bias=bias), nn.Tanh(), nn.Linear(300, LABELS))


# Rows of zeros, as of clients that have made their steps, are no rows: they pass no gradient.
@pytest.mark.parametrize("limit", [0.0, 1.0, float("inf")], ids=["copies", "both", "factors"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("steps", [None, [7, 2, 5, 1, 1]], ids=["whole", "deadline"])
def test_the_sum_is_that_of_the_clients_weights(monkeypatch, limit, bias, steps):
    monkeypatch.setattr(factored, "FACTORS_UP_TO", limit)
    work = replace(workload(), model=wide(bias))
    cohort = sorted(tasks(work, SIZES, steps), key=lambda task: -task.steps)
    found, expected = summed(work, start(work), cohort), update(work, start(work), cohort)
    counts = torch.tensor([task.weight for task in cohort])
    torch.testing.assert_close(found.update, counts @ (expected.weights - start(work)), rtol=1e-5, atol=1e-5)
    for one, other in zip(found.outcomes, expected.outcomes, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


# A row may be a vector, or a sequence of them.
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5)], ids=str)
def test_steps_are_those_of_torchs_sgd(monkeypatch, shape):
    monkeypatch.setattr(factored, "FACTORS_UP_TO", float("inf"))
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2, bias=False))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    batches = torch.randn(2, 3, *shape)
    weights = torch.tensor([0.5, 3.0])
    with Factored(layers(model), before, RATE, clients=2, steps=3) as together:
        for number in range(3):
            together.begin(2)
            model(batches[:, number].flatten(0, 1)).square().sum().backward()
            together.end(number)
        found = together.changes(weights)
    expected = [torch.zeros_like(each) for each in before]
    for weight, own in zip(weights, batches, strict=True):
        for parameter, each in zip(model.parameters(), before, strict=True):
            parameter.data.copy_(each)
        optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
        for batch in own:
            optimiser.zero_grad()
            model(batch).square().sum().backward()
            optimiser.step()
        for total, parameter, each in zip(expected, model.parameters(), before, strict=True):
            total.add_(weight * (parameter.detach() - each))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_layer_that_nothing_goes_through_stays():
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with Factored(layers(model), before, RATE, clients=2, steps=1) as together:
        together.begin(2)
        model[0](torch.randn(4, 3)).sum().backward()
        *_, weight, bias = together.changes(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close([weight, bias], [torch.zeros(2, 3), torch.zeros(2)])


def test_a_client_that_diverges_is_not_hidden():
    work = replace(workload(learning_rate=1e38), model=wide())
    assert not summed(work, start(work), tasks(work, [9])).update.isfinite().all()


def test_rows_decide_and_not_their_place_in_the_cohort(monkeypatch):
    chosen = []
    original = factored._Factors.__init__
    monkeypatch.setattr(
        factored._Factors,
        "__init__",
        lambda self, start, rate, clients, rows: [chosen.append(rows), original(self, start, rate, clients, rows)][1],
    )
    work = replace(workload(local_epochs=1), model=wide())
    for rows in (np.arange(4), np.arange(40)):
        [task] = tasks(work, [len(rows)])
        summed(work, start(work), [task])
    # 4 * (6 + 300) < 6 * 300, and neither 40 rows nor the last layer's three outputs are few enough.
    assert chosen == [4]
