"""DP-FedAvg and DP-FTRL: what bounds a client's update, the noise, who joins, and what is stated of it."""

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting.pld import PLDAccountant
from federated_cases import EXAMPLES, cohort_of, federation, start, tasks, workload
from pydantic import ValidationError

from stages.common.errors import SettingError
from stages.federate.client import update
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.population import Dealt
from stages.federate.privacy import private_mean
from stages.federate.selection import select_in_turn, select_independently

SIZES = (5, 10, 15, 20, 30, 40)
ASKED = {"epsilon": 4.0, "delta": 1e-3, "clipping_norm": 0.05}


def private(asked=ASKED, **changes):
    return {"mechanism": "dp_fedavg", "privacy": asked, "clients_per_round": 3, "rounds": 20} | changes


def rounds_of(work, number, processes=1, noise=True):
    """Return the weights and the clipping norm after so many rounds."""
    clients = Dealt(np.repeat([f"c{client}" for client in range(len(SIZES))], SIZES))
    mean = private_mean(work.settings, len(clients), 0)
    if not noise:
        mean._multiplier = 0.0
    with Engine(work, work.settings.clients_per_round, processes) as engine:
        served = Federation(engine, work, clients, 0, mean)
        for each in range(1, number + 1):
            served.round(each)
    return served.weights, mean.clipping_norm


@pytest.mark.parametrize("vectorised", [True, False])
def test_updates_are_clipped_to_the_norm_and_no_further(vectorised):
    work = workload(vectorised=vectorised, **private())
    for task in tasks(work, SIZES):
        way = update(work, start(work), [task]).weights[0] - start(work)
        for bound in (0.05, 100.0):
            [changed], [outcome] = update(work, start(work), [task._replace(clipping_norm=bound)])
            assert outcome.norm == pytest.approx(float(way.norm()), rel=1e-5)
            torch.testing.assert_close(changed, way * min(1, bound / outcome.norm), rtol=1e-4, atol=1e-7)
            assert float(changed.norm()) <= bound * (1 + 1e-6)


def test_an_update_that_is_not_finite_adds_nothing():
    work = workload(**private())
    [task] = tasks(work, [40])
    work.inputs[0][task.rows] = torch.nan
    [changed], [outcome] = update(work, start(work), [task._replace(clipping_norm=0.05)])
    assert not np.isfinite(outcome.norm)
    assert not changed.any()


def test_each_client_counts_alike_whatever_it_holds():
    # One step of all its examples: a client's update is its own gradient, whatever the order.
    one_step = {"batch_size": EXAMPLES, "local_epochs": 1}
    work = workload(**private(ASKED | {"clipping_norm": 1e6}, clients_per_round=6), **one_step)
    weights, _ = rounds_of(work, 1, noise=False)
    updates = [update(work, start(work), [task]).weights[0] - start(work) for task in tasks(work, SIZES)]
    torch.testing.assert_close(weights - start(work), torch.stack(updates).mean(0), rtol=1e-4, atol=1e-6)


def test_the_divisor_is_the_expected_cohort_and_the_noise_has_the_stated_deviation():
    work = workload(**private(clients_per_round=2))
    mean = private_mean(work.settings, len(SIZES), 0)
    total = torch.ones(200_000, dtype=torch.float64)
    first, second = (mean.release(total, [0.01] * 5, number) for number in (1, 2))
    deviation = mean.statement()["schedule"][0]["noise_multiplier"] * 0.05 / 2
    for made in (first, second):
        assert float(made.mean()) == pytest.approx(0.5, abs=5 * deviation / np.sqrt(len(total)))
        assert float(made.std()) == pytest.approx(deviation, rel=0.01)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015


def test_cells_of_one_seed_share_neither_noise_nor_cohorts():
    # With one noise in both, the difference of what two cells release would have none.
    zero = torch.zeros(10_000, dtype=torch.float64)
    for mechanism in ("dp_fedavg", "dp_ftrl"):
        cells = [federation(**private(ASKED | {"epsilon": epsilon}, mechanism=mechanism)) for epsilon in (3.0, 4.0)]
        one, other = (private_mean(cell, 40, 0).release(zero, [], 1) for cell in cells)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
        again = cells[0].model_copy(update={"seeds": [0, 1], "role": "reference"})
        assert torch.equal(private_mean(again, 40, 0).release(zero, [], 1), one)
    clients = Dealt(np.array([f"c{client:02d}" for client in range(40)]))
    drawn = [[each.client for each in cohort_of(clients, cell, 0, 1)] for cell in private_cells()]
    assert drawn[0] != drawn[1]


def private_cells():
    return [federation(**private(ASKED | {"epsilon": epsilon}, clients_per_round=20)) for epsilon in (3.0, 4.0)]


def test_drop_outs_are_expected():
    work = workload(**private(participation={"drop_out": 0.5}, clients_per_round=4))
    mean = private_mean(work.settings, len(SIZES), 0)
    mean._multiplier = 0.0
    assert mean.release(torch.ones(3, dtype=torch.float64), [1.0], 1).tolist() == [0.5] * 3


def test_a_client_whose_loss_is_no_number_does_not_end_a_private_run():
    work = workload(**private(clients_per_round=6))
    work.inputs[0][:5] = torch.nan
    clients = Dealt(np.repeat([f"c{client}" for client in range(len(SIZES))], SIZES))
    with Engine(work, 6) as engine:
        made = Federation(engine, work, clients, 0, private_mean(work.settings, len(clients), 0)).round(1)
    assert np.isfinite(made.loss)


def test_a_round_without_clients_takes_its_noise():
    work = workload(**private(participation={"drop_out": 0.999999}))
    weights, _ = rounds_of(work, 1)
    assert (weights != start(work)).all()


def test_clients_join_independently_with_the_same_probability():
    cohorts = [select_independently(40, 10, 0, number) for number in range(2000)]
    sizes = np.array([len(cohort) for cohort in cohorts])
    # Binomial(40, 1/4).
    assert sizes.mean() == pytest.approx(10, abs=0.2)
    assert sizes.var() == pytest.approx(7.5, rel=0.12)
    often = np.bincount(np.concatenate(cohorts), minlength=40) / 2000
    assert np.abs(often - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)
    with pytest.raises(SettingError, match="4 is more than the 3 clients"):
        select_independently(3, 4, 0, 1)


def test_the_weights_do_not_depend_on_the_number_of_processes():
    quantile = {"target": 0.5, "learning_rate": 0.5, "noise": 2.0}
    work = workload(**private(ASKED | {"quantile": quantile}))
    (one, norm), (two, same) = (rounds_of(work, 3, processes) for processes in (1, 2))
    assert torch.equal(one, two)
    assert norm == same != 0.05


def test_the_clipping_norm_finds_the_quantile_of_the_norms():
    quantile = {"target": 0.5, "learning_rate": 0.2, "noise": 10.0}
    settings = federation(**private(ASKED | {"epsilon": 50.0, "quantile": quantile}, clients_per_round=200))
    mean = private_mean(settings, 1000, 0)
    norms = list(np.random.default_rng(0).lognormal(0.0, 1.0, 200))
    for number in range(1, 101):
        mean.release(torch.zeros(2, dtype=torch.float64), norms, number)
    assert mean.clipping_norm == pytest.approx(np.median(norms), rel=0.1)
    stated = mean.statement()
    assert stated["quantile"]["last_clipping_norm"] == mean.clipping_norm
    assert stated["quantile"]["gradient_noise_multipliers"][0] > stated["schedule"][0]["noise_multiplier"]


def test_epsilon_is_that_of_the_accountant_by_hand():
    settings = federation(**private(clients_per_round=10, rounds=50))
    stated = private_mean(settings, 200, 0).statement()
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    gaussian = dp_accounting.GaussianDpEvent(stated["schedule"][0]["noise_multiplier"])
    accountant.compose(dp_accounting.PoissonSampledDpEvent(10 / 200, gaussian), 50)
    assert stated["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-6)
    assert stated["epsilon"] == pytest.approx(4.0, rel=0.01)
    assert stated["epsilon"] <= 4.0
    assert (stated["unit"], stated["adjacency"]) == ("client", "add or remove one client")
    assert stated["sampler"] == {"kind": "poisson", "of": "client", "probability": 0.05}


ACTIVE = {"rule": "power", "draw": "independently", "rate": 0.01, "most": 0.2}


def test_of_clients_by_activity_the_largest_probability_is_accounted_for():
    settings = federation(**private(clients_per_round=10, rounds=50, selection=ACTIVE))
    stated = private_mean(settings, 200, 0).statement()
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    gaussian = dp_accounting.GaussianDpEvent(stated["schedule"][0]["noise_multiplier"])
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.2, gaussian), 50)
    assert stated["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-6)
    assert stated["sampler"]["probability"] == 0.2
    assert stated["sampler"]["how"] == "each with min(0.2, 0.01 x examples^1), at most as stated"
    # Each joins as often as its own examples say, whoever else there is.
    cell = federation(**private(clients_per_round=2, selection=ACTIVE))
    for sizes in (SIZES, SIZES[1:]):
        clients = Dealt(np.repeat([f"c{client}" for client in range(len(sizes))], sizes))
        drawn = np.zeros(len(sizes))
        for number in range(1, 3001):
            drawn[[each.client for each in cohort_of(clients, cell, 0, number)]] += 1
        expected = np.minimum(0.2, 0.01 * np.array(sizes))
        assert np.abs(drawn / 3000 - expected).max() < 4 * np.sqrt(0.2 * 0.8 / 3000)


@pytest.mark.parametrize(
    "selection",
    [{"rule": "power"}, {"rule": "power", "draw": "independently"}, {"rule": "top"}, {"rule": "oort"}],
    ids=str,
)
def test_other_selection_by_activity_has_no_guarantee(selection):
    with pytest.raises(ValidationError, match="wants clients whose probability depends on no other client"):
        federation(**private(selection=selection))


def test_a_quantile_of_clients_by_activity_is_refused():
    quantile = {"target": 0.5, "learning_rate": 0.5, "noise": 2.0}
    with pytest.raises(ValidationError, match="wants a known expected cohort"):
        federation(**private(ASKED | {"quantile": quantile}, selection=ACTIVE))


@pytest.mark.parametrize("mechanism", ["dp_fedavg", "dp_ftrl"])
def test_clients_that_cannot_be_asked_are_not_accounted_for(mechanism):
    with pytest.raises(ValidationError, match=r"participation\.available: not accounted for"):
        federation(**private(mechanism=mechanism, participation={"available": 0.5}))


def in_turn(clients=64, cohort=4, rounds=16, asked=ASKED):
    changes = private(asked, mechanism="dp_ftrl", clients_per_round=cohort, rounds=rounds)
    return private_mean(federation(**changes), clients, 0)


def test_in_turn_every_client_takes_part_once_in_a_pass():
    cohorts = [select_in_turn(11, 3, 0, number) for number in range(1, 7)]
    first, second = (np.concatenate(cohorts[start : start + 3]) for start in (0, 3))
    for passed in (first, second):
        assert len(set(passed)) == 9
    assert sorted(first) != sorted(second) or (cohorts[0] != cohorts[3]).any()


def test_sums_of_rounds_have_the_noise_of_their_nodes():
    # The noise on the sum of the first t rounds is that of the digits of t that are 1; of each round alone it is more.
    mean, zero = in_turn(), torch.zeros(100_000, dtype=torch.float64)
    deviation = mean.statement()["schedule"][0]["noise_multiplier"] * 0.05 / 4
    total = torch.zeros_like(zero)
    for number in range(1, 17):
        total += mean.release(zero, [], number)
        assert float(total.std()) == pytest.approx(deviation * np.sqrt(number.bit_count()), rel=0.02)
    # The next pass has a tree of its own.
    assert float(mean.release(zero, [], 17).std()) == pytest.approx(deviation, rel=0.02)
    assert abs(np.corrcoef(in_turn().release(zero, [], 1), mean.release(zero, [], 17))[0, 1]) < 0.02


def test_without_noise_what_is_released_is_the_mean():
    mean = in_turn()
    mean._multiplier = 0.0
    total = torch.arange(5, dtype=torch.float64)
    assert all(torch.equal(mean.release(total, [], number), total / 4) for number in range(1, 20))


@pytest.mark.parametrize(("rounds", "mechanisms"), [(1, 1), (15, 4), (16, 5), (17, 6), (32, 10), (35, 12)])
def test_epsilon_in_turn_is_of_as_many_gaussians_as_there_are_nodes_over_a_client(rounds, mechanisms):
    # 16 leaves have a depth of 5; a client is in one leaf in each pass, and the last tree may be smaller.
    stated = in_turn(rounds=rounds).statement()
    multiplier = stated["schedule"][0]["noise_multiplier"]
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_accounting.GaussianDpEvent(multiplier / np.sqrt(mechanisms)))
    assert stated["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), rel=0.01)
    assert stated["epsilon"] <= 4.0
    assert stated["sampler"]["kind"] == "in turn"
    assert stated["adjacency"] == "replace one client by one that sends nothing"


def test_a_federation_in_turn_is_the_same_in_any_number_of_processes():
    work = workload(**private(mechanism="dp_ftrl"))
    assert torch.equal(rounds_of(work, 3)[0], rounds_of(work, 3, 2)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "fedavg", "privacy": ASKED}, "mechanism: fedavg takes no `privacy`"),
        ({"mechanism": "dp_fedavg"}, "mechanism: dp_fedavg needs `privacy`"),
        (private(ASKED | {"quantile": {}}, mechanism="dp_ftrl"), "dp_ftrl takes no privacy.quantile"),
        (private(mu=0.1), "mechanism: dp_fedavg takes no `mu`"),
        (private(ASKED | {"epsilon": 0.0}), "greater than 0"),
        (private(ASKED | {"clipping_norm": 0.0}), "greater than 0"),
        (private(ASKED | {"delta": 1.0}), "less than 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_not_a_guarantee_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        federation(**changes)


def test_an_epsilon_out_of_reach_is_refused_with_the_nearest():
    with pytest.raises(SettingError, match=r"at most \d"):
        private_mean(federation(**private(ASKED | {"epsilon": 1e6})), len(SIZES), 0)
