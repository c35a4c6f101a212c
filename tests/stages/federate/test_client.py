from dataclasses import replace

import numpy as np
import pytest
import torch
from federated_cases import Broken, start, tasks, workload
from torch import nn

from stages.federate.client import update
from stages.federate.weights import Layout

SIZES = [23, 17, 17, 9, 4, 1]
CLIENTS = {
    "sgd": {},
    "momentum": {"client": {"kind": "sgd", "momentum": 0.9}},
    "adamw": {"client": {"kind": "adamw", "weight_decay": 0.1}, "learning_rate": 0.01},
    "proximal": {"mechanism": "fedprox", "mu": 0.5},
    "one large batch": {"batch_size": 100},
}


def longest_first(work, sizes, steps=None):
    return sorted(tasks(work, sizes, steps), key=lambda task: -task.steps)


@pytest.mark.parametrize("changes", CLIENTS.values(), ids=CLIENTS)
def test_clients_at_once_get_what_each_gets_alone(changes):
    work = workload(**changes)
    cohort = longest_first(work, SIZES)
    together = update(work, start(work), cohort)
    for task, weights, outcome in zip(cohort, *together, strict=True):
        alone = update(replace(work, vectorised=False), start(work), [task])
        torch.testing.assert_close(weights, alone.weights[0], rtol=1e-5, atol=1e-5)
        assert outcome.loss == pytest.approx(alone.outcomes[0].loss, rel=1e-5)


def test_the_same_holds_with_a_deadline_and_corrections():
    work = workload(mechanism="scaffold")
    cohort = longest_first(work, SIZES, [7, 2, 5, 1, 2, 1])
    corrections = torch.randn(len(cohort), Layout(work.model).size, generator=torch.Generator().manual_seed(3))
    together = update(work, start(work), cohort, corrections)
    for task, weights, added in zip(cohort, together.weights, corrections, strict=True):
        alone = update(replace(work, vectorised=False), start(work), [task], added[None])
        torch.testing.assert_close(weights, alone.weights[0])


def test_steps_within_the_backward_pass_are_those_of_gradients():
    # A momentum too small to change a bit of the weights.
    plain, other = workload(), workload(client={"kind": "sgd", "momentum": 1e-30})
    cohort = longest_first(plain, SIZES)
    one, another = (update(each, start(plain), cohort).weights for each in (plain, other))
    torch.testing.assert_close(one, another)


@pytest.mark.parametrize("changes", [CLIENTS["sgd"], CLIENTS["momentum"], CLIENTS["adamw"]], ids=str)
def test_a_client_does_what_torchs_optimiser_does(changes):
    work = workload(**changes)
    settings = work.settings
    [task] = tasks(work, [10])
    found, alone = (update(each, start(work), [task]).weights[0] for each in (work, replace(work, vectorised=False)))
    torch.testing.assert_close(found, alone)
    model, (inputs,) = workload().model, work.inputs
    optimiser = (
        torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.1)
        if settings.client.kind == "adamw"
        else torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=settings.client.momentum)
    )
    draws = torch.Generator().manual_seed(task.order)
    for _ in range(settings.local_epochs):
        for rows in torch.randperm(10, generator=draws).split(4):
            optimiser.zero_grad()
            work.objective(model(inputs[rows]), rows).mean().backward()
            optimiser.step()
    torch.testing.assert_close(found, Layout(model).read(model))


def test_rows_of_an_embedding_that_no_batch_names_are_not_touched_and_the_others_are_as_by_dense_gradients():
    def of_tokens(**client):
        work = workload(vectorised=False, client={"kind": "sgd", **client})
        torch.manual_seed(0)
        ids = torch.randint(0, 30, (len(work.inputs[0]), 5), generator=torch.Generator().manual_seed(1))
        embedding = nn.Embedding(40, 6)
        model = nn.Sequential(embedding, nn.Flatten(), nn.Linear(30, work.model[-1].out_features))
        return embedding, replace(work, model=model, inputs=(ids,))

    embedding, sparse = of_tokens()
    # A momentum too small to change a bit of the weights wants gradients of all rows.
    _, dense = of_tokens(momentum=1e-30)
    [task] = tasks(sparse, [10])
    found, expected = (
        Layout(each.model).views(update(each, start(each), [task]).weights[0]) for each in (sparse, dense)
    )
    torch.testing.assert_close(found, expected)
    named = torch.zeros(40, dtype=torch.bool).index_fill(0, sparse.inputs[0][task.rows].unique(), True)
    assert ((found[0] != embedding.weight).any(1) == named).all()
    assert not embedding.sparse


def test_an_update_is_a_pure_function_even_with_dropout():
    work = workload(dropout=0.5, vectorised=False)
    one, other = tasks(work, [10, 10])
    first = update(work, start(work), [one]).weights
    torch.manual_seed(7)
    update(work, start(work), [other])
    again = update(work, start(workload()), [one]).weights
    assert torch.equal(first, again)
    assert not torch.equal(first, update(work, start(workload()), [one._replace(dropout=9)]).weights)


def test_a_client_that_fails_leaves_the_model_its_own_weights():
    work = workload(Broken, vectorised=False)
    before = start(work)
    with pytest.raises(ZeroDivisionError):
        update(work, before + 1, tasks(work, [10]))
    assert torch.equal(start(work), before)


def test_without_a_proximal_term_an_update_is_that_of_fedavg_and_with_it_the_client_stays_nearer():
    way = {}
    for mu in (None, 0.0, 0.1, 1.0, 10.0):
        work = workload(**({} if mu is None else {"mechanism": "fedprox", "mu": mu}), local_epochs=5)
        cohort = tasks(work, [20, 20])
        way[mu] = update(work, start(work), cohort).weights - start(work)
    assert torch.equal(way[None], way[0.0])
    lengths = [float(way[mu].norm()) for mu in (0.0, 0.1, 1.0, 10.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 4


@pytest.mark.parametrize(("steps", "seen"), [(1, [4]), (3, [4, 4, 2]), (4, [4]), (6, [4, 4, 2])])
def test_the_loss_is_the_mean_over_the_last_epoch_as_far_as_it_went(steps, seen):
    # Without learning it is that of the weights; of ten examples a batch of two is the last.
    work = workload(learning_rate=1e-30)
    [task] = tasks(work, [10], [steps])
    draws, (inputs,) = torch.Generator().manual_seed(task.order), work.inputs
    order = [torch.randperm(10, generator=draws) for _ in range(2)][(steps - 1) // 3]
    rows = order[: sum(seen)]
    expected = work.objective(work.model(inputs[rows]), rows).mean().item()
    assert update(work, start(work), [task]).outcomes[0].loss == pytest.approx(expected)


def test_each_local_epoch_sees_every_row_of_the_client_once():
    work, seen = workload(batch_size=2), []
    objective = work.objective

    class Watching:
        def __call__(self, scores, rows):
            seen.append(rows)
            return objective(scores, rows)

    work = replace(work, objective=Watching(), vectorised=False)
    [task] = tasks(work, [5])
    update(work, start(work), [task._replace(rows=np.array([2, 3, 5, 7, 11]))])
    assert [len(batch) for batch in seen] == [2, 2, 1, 2, 2, 1]
    assert [sorted(torch.cat(epoch).tolist()) for epoch in (seen[:3], seen[3:])] == [[2, 3, 5, 7, 11]] * 2
