import tracemalloc

import numpy as np
import pytest
from federated_cases import cohort_of, federation
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.errors import SettingError
from stages.federate.population import Dealt
from stages.federate.selection import select


class Simulated:
    """So many clients of three rows, made when they are asked for."""

    def __init__(self, clients):
        self.clients, self.asked = clients, []

    def __len__(self):
        return self.clients

    def sizes(self):
        return None

    def rows(self, client):
        self.asked.append(client)
        return np.random.default_rng(client).integers(100, size=3)


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**31 - 1), st.integers(1, 10_000))
@settings(deadline=None, max_examples=50)
def test_a_cohort_is_sorted_distinct_clients_as_many_as_asked_for(clients, per_round, seed, number):
    if per_round > clients:
        with pytest.raises(SettingError, match=f"{per_round} is more than the {clients} clients"):
            select(clients, per_round, seed, number)
        return
    cohort = select(clients, per_round, seed, number)
    assert len(cohort) == per_round
    assert (np.diff(cohort) > 0).all()
    assert cohort[0] >= 0
    assert cohort[-1] < clients


def test_a_cohort_depends_on_seed_and_round_alone():
    np.random.seed(1)  # noqa: NPY002
    first = select(50, 10, 3, 7)
    np.random.seed(2)  # noqa: NPY002
    assert (select(50, 10, 3, 7) == first).all()
    assert (select(50, 10, 3, 8) != first).any()
    assert (select(50, 10, 4, 7) != first).any()


def test_every_client_is_drawn_equally_often():
    drawn = np.bincount(np.concatenate([select(20, 5, 0, number) for number in range(1, 801)]), minlength=20)
    # Binomial(800, 1/4): mean 200, standard deviation 12.2.
    assert drawn.min() > 150
    assert drawn.max() < 250


def test_a_million_clients_take_no_more_memory_than_a_thousand():
    peaks = {}
    for clients in (1_000, 1_000_000):
        population = Simulated(clients)
        tracemalloc.start()
        cohort = cohort_of(population, federation(clients_per_round=20))
        peaks[clients] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert population.asked == [each.client for each in cohort]
        assert len(cohort) == 20
    assert peaks[1_000_000] < 2 * peaks[1_000]


def test_clients_of_a_partition_are_in_the_order_of_their_names_and_their_rows_in_that_of_the_examples():
    population = Dealt(np.array(["c2", "c10", "c2", "c0", "c10", "c2"]))
    assert len(population) == 3
    assert [population.rows(client).tolist() for client in range(3)] == [[3], [1, 4], [0, 2, 5]]


def test_a_client_makes_the_steps_of_its_epochs():
    population = Dealt(np.repeat(["a", "b", "c"], [1, 8, 9]))
    cohort = cohort_of(population, federation(clients_per_round=3, local_epochs=5))
    assert [each.steps for each in cohort] == [5, 10, 15]


def test_a_client_without_an_example_is_refused():
    class Empty(Simulated):
        def rows(self, client):
            return super().rows(client)[: client > 2]

    with pytest.raises(SettingError, match=r"client [0-2] holds no example"):
        cohort_of(Empty(6), federation(clients_per_round=6))


def steps_of(rounds=200, **participation):
    settings = federation(clients_per_round=20, participation=participation, local_epochs=10)
    population = Dealt(np.repeat(np.arange(20).astype(str), 4))
    return np.array([[p.steps for p in cohort_of(population, settings, 0, n)] for n in range(1, rounds + 1)])


def test_clients_drop_out_as_often_as_said_each_by_a_coin_of_its_own():
    steps = steps_of(drop_out=0.3)
    assert set(steps.flatten()) == {0, 10}
    # Binomial(4000, 0.3): standard deviation 0.007; of each client alone, 0.032.
    assert (steps == 0).mean() == pytest.approx(0.3, abs=0.03)
    assert (steps == 0).mean(axis=0) == pytest.approx(np.full(20, 0.3), abs=0.13)


def test_a_deadline_cuts_steps_and_stragglers_make_a_share_of_it():
    assert set(steps_of(deadline=7).flatten()) == {7}
    assert set(steps_of(deadline=12).flatten()) == {10}
    steps = steps_of(deadline=8, stragglers=0.5)
    # A straggler makes 0 to 7 steps, each equally often.
    assert np.bincount(steps.flatten()) / steps.size == pytest.approx([0.5 / 8] * 8 + [0.5], abs=0.03)


def test_who_drops_out_is_not_changed_by_who_is_slow():
    some, others = steps_of(drop_out=0.3), steps_of(drop_out=0.3, deadline=100, stragglers=1e-9)
    assert (some == others).all()
