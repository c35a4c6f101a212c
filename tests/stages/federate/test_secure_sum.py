"""Federations whose updates are summed by secure aggregation, against the same in the clear."""

import numpy as np
import pytest
import torch
from federated_cases import EXAMPLES, Broken, federation, start, workload
from pydantic import ValidationError

from stages.common.errors import SettingError
from stages.federate.client import update
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.population import Dealt, Participant, participants
from stages.federate.privacy import private_mean
from stages.federate.quantisation import quantise, restored
from stages.federate.secure_sum import SecureSum
from stages.federate.server import mean_update
from stages.federate.weights import Layout

SIZES = (5, 10, 15, 20, 30, 40)
SECURE = {"neighbours": 4, "threshold": 3}
PRIVACY = {"epsilon": 4.0, "delta": 1e-3, "clipping_norm": 0.05}


def secured(secure=SECURE, **changes):
    return {"secure_aggregation": secure, "clients_per_round": 6} | changes


def federation_of(work, processes=1):
    clients = Dealt(np.repeat([f"c{client}" for client in range(len(SIZES))], SIZES))
    settings = work.settings
    private = private_mean(settings, len(clients), 0) if settings.privacy else None
    return Federation(Engine(work, settings.clients_per_round, processes), work, clients, 0, private)


def run(work, number=1, processes=1):
    """Return the federation and its rounds."""
    served = federation_of(work, processes)
    with served._engine:
        return served, [served.round(each) for each in range(1, number + 1)]


MECHANISMS = [
    {},
    {"mechanism": "fedprox", "mu": 0.5},
    {"mechanism": "fednova", "participation": {"deadline": 12, "stragglers": 0.5}},
    {"client": {"kind": "adamw"}, "learning_rate": 0.01},
    {"secure_aggregation": SECURE | {"drop_out": 0.1}, "participation": {"drop_out": 0.1}},
]


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("changes", MECHANISMS, ids=str)
def test_the_weights_are_those_of_sums_in_the_clear_up_to_rounding(changes, vectorised):
    secure = workload(vectorised=vectorised, **secured() | changes)
    clear = workload(vectorised=vectorised, **secured() | changes | {"secure_aggregation": None})
    [(one, rounds), (other, same)] = [run(work) for work in (secure, clear)]
    cohort = participants(one._population, secure.settings, one._selector.draw(1), 0, 1)
    tasks = [one._task(slot, each, 1) for slot, each in enumerate(cohort) if each.steps]
    # Of each client's update, of a weight of at most 1, a value is off by half a step at most.
    secured_by = secure.settings.secure_aggregation
    off = torch.tensor([len(tasks) * max(task.weight for task in tasks) * secured_by.step / 2])
    bound = float(mean_update(secure.settings, torch.zeros(1), off, tasks, EXAMPLES))
    assert 0 < (one.weights - other.weights).abs().max() <= bound + 1e-7
    assert rounds[0].loss == pytest.approx(same[0].loss, rel=1e-5)
    assert (rounds[0].clipped, same[0].clipped) == (0.0, None)


@pytest.mark.parametrize("lost", [{}, {"participation": {"drop_out": 0.15}}], ids=["all", "some"])
def test_the_sum_is_that_of_the_quantised_updates_to_the_last_bit(lost):
    work = workload(**secured(), **lost)
    served = federation_of(work)
    secure = work.settings.secure_aggregation
    for number in range(1, 6):
        cohort = participants(served._population, work.settings, served._selector.draw(number), 0, number)
        tasks = [served._task(slot, each, number) for slot, each in enumerate(each for each in cohort if each.steps)]
        largest = max(task.weight for task in tasks)
        words = np.zeros(len(served.weights), np.uint32)
        for task in tasks:
            [own] = update(work, served.weights, [task]).weights
            way = own.double() - served.weights.double()
            words += quantise((task.weight / largest * way).numpy(), secure).words
        summing = SecureSum(work.settings, cohort, 0, number)
        reported = served._engine.run(served.weights, summing.masked(tasks))
        # What the engine hands over is masked.
        assert (reported.total.numpy().astype(np.uint32) != words).mean() > 0.9
        found = summing.unmasked(reported, tasks)
        assert torch.equal(found, torch.from_numpy(restored(words, secure)) * largest)


@pytest.mark.parametrize("vectorised", [True, False], ids=["at once", "one by one"])
def test_the_number_of_processes_changes_nothing(vectorised):
    dropout = 0.0 if vectorised else 0.5
    lost = {"participation": {"drop_out": 0.1}, "secure_aggregation": SECURE | {"drop_out": 0.05}}
    work = workload(vectorised=vectorised, dropout=dropout, **secured() | lost)
    found = [run(work, 3, processes) for processes in (1, 2, 3)]
    assert all(torch.equal(served.weights, found[0][0].weights) for served, _ in found)
    assert all(rounds == found[0][1] for _, rounds in found)


def test_nor_does_it_with_a_guarantee():
    work = workload(**secured(mechanism="dp_fedavg", privacy=PRIVACY, participation={"drop_out": 0.01}, rounds=3))
    one, two = (run(work, 3, processes)[0] for processes in (1, 2))
    assert torch.equal(one.weights, two.weights)


@pytest.mark.parametrize("mechanism", ["dp_fedavg", "dp_ftrl"])
def test_rounded_updates_stay_within_the_clipping_norm(mechanism):
    work = workload(**secured(SECURE | {"bits": 8, "clip": 0.1}), mechanism=mechanism, privacy=PRIVACY)
    served, secure = federation_of(work), work.settings.secure_aggregation
    for slot, each in enumerate(everybody(served)):
        task = served._task(slot, each, 1)
        [way] = update(work, served.weights, [task]).weights
        rounded = restored(quantise(way.double().numpy(), secure).words, secure)
        # The allowance for rounding is most of what is missing.
        assert 0.04 < np.linalg.norm(rounded) <= PRIVACY["clipping_norm"]


def everybody(served):
    """Return the whole population as a cohort, whoever is drawn."""
    return [Participant(client, served._population.rows(client), 3) for client in range(len(SIZES))]


@pytest.mark.parametrize("mechanism", ["dp_fedavg", "dp_ftrl"])
def test_but_for_its_noise_a_private_mean_is_that_of_the_clear(mechanism):
    found = []
    for secure in (SECURE, None):
        work = workload(**secured(secure), mechanism=mechanism, privacy=PRIVACY)
        served = federation_of(work)
        served.private._multiplier = 0.0
        served._train(everybody(served), 1, SecureSum(work.settings, everybody(served), 0, 1) if secure else None)
        found.append(served.weights)
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    assert not torch.equal(*found)


def test_rounding_that_is_no_smaller_than_the_clipping_norm_is_refused():
    work = workload(**secured(SECURE | {"bits": 4}), mechanism="dp_fedavg", privacy=PRIVACY)
    with pytest.raises(SettingError, match=r"rounding 53 values to 4 bits may add 4.16 to a norm clipped to 0.05"):
        run(work)


def test_values_beyond_the_range_are_clipped_and_counted():
    work = workload(**secured(SECURE | {"clip": 1e-3}))
    served, [made] = run(work)
    assert 0.1 < made.clipped < 1
    # The mean of six clients whose weights are divided by the largest.
    most = 1e-3 * len(SIZES) * max(SIZES) / sum(SIZES)
    assert (served.weights - start(work)).abs().max() <= most + 1e-7


def test_too_few_neighbours_end_the_round_and_leave_the_weights():
    work = workload(**secured(SECURE | {"drop_out": 0.9}))
    served = federation_of(work)
    before = served.weights.clone()
    message = r"in round 1 client 0 sent its update, and \d of its 4 neighbours answer, of whom 3 are needed"
    with pytest.raises(SettingError, match=message):
        served.round(1)
    assert torch.equal(served.weights, before)


def test_a_round_that_all_dropped_out_of_has_nothing_to_unmask():
    work = workload(**secured(), participation={"drop_out": 0.999999})
    served, [made] = run(work)
    assert torch.equal(served.weights, start(work))
    assert (made.loss, made.clipped) == (None, None)
    # Keys and shares were exchanged all the same: 64 bytes of keys, and 82 for each neighbour.
    assert made.bytes_up == 6 * (64 + 4 * 82)


def test_bytes_are_those_of_words_keys_and_shares():
    work = workload(**secured(), participation={"drop_out": 0.1})
    values = Layout(work.model).size
    served = federation_of(work)
    for number in range(1, 6):
        made = served.round(number)
        reporting = sum(
            each.steps > 0
            for each in participants(served._population, work.settings, served._selector.draw(number), 0, number)
        )
        # Those who report send words and, at the end, a share of 33 bytes for each neighbour.
        assert made.bytes_up == 6 * (64 + 4 * 82) + reporting * (4 * values + 4 * 33)
        assert made.bytes_down == 6 * (4 * values + 4 * (64 + 82))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_update_that_is_not_finite_is_refused(processes):
    work = workload(vectorised=False, **secured())
    work.inputs[0][:5] = torch.nan
    with pytest.raises(SettingError, match="a client's update is not finite"):
        run(work, processes=processes)


def test_a_defect_in_a_client_is_no_drop_out():
    with pytest.raises(ZeroDivisionError):
        run(workload(Broken, **secured()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (secured(mechanism="scaffold"), "scaffold takes no `secure_aggregation`, which does not mask control variates"),
        (secured(clients_per_round=1), "clients_per_round: 1 is no cohort for `secure_aggregation`; give 2 or more"),
        (
            secured({"bits": 30}),
            "6 clients of 30 bits overflow the sum's 32; give fewer bits, or a cohort of",
        ),
        (secured({"threshold": 40}), "threshold: 40 is more than the 5 other clients of the cohort"),
        (secured({"degree": 4}), "Extra inputs are not permitted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        federation(**changes)


def test_settings_without_secure_aggregation_are_said_as_before_so_that_their_draws_stay():
    assert "secure_aggregation" not in federation().model_dump()
    assert "secure_aggregation" in federation(**secured()).model_dump()
