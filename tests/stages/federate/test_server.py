import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.federate.server import average, select


def state(*numbers):
    return {"weight": torch.tensor([numbers]), "bias": torch.tensor([-numbers[0]])}


def test_an_average_is_weighted_by_the_clients_examples():
    found = average([state(1.0, 2.0), state(4.0, 8.0)], [1, 3])
    assert found["weight"].tolist() == [[(1 + 3 * 4) / 4, (2 + 3 * 8) / 4]]
    assert found["bias"].tolist() == [-(1 + 3 * 4) / 4]


def test_a_client_without_weight_has_no_part_in_it():
    assert average([state(1.0, 2.0), state(4.0, 8.0)], [0, 3])["weight"].tolist() == [[4.0, 8.0]]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5),
    st.lists(st.integers(1, 1000), min_size=1, max_size=9),
)
@settings(deadline=None, max_examples=30)
def test_clients_that_agree_are_averaged_to_the_last_bit(numbers, weights):
    assert torch.equal(average([state(*numbers)] * len(weights), weights)["weight"], state(*numbers)["weight"])


def test_small_clients_are_not_lost_beside_a_large_sum():
    # In float32, adding 1 to 2**25 changes nothing.
    states = [state(2.0**25)] + [state(1.0)] * 4
    assert average(states, [1] * 5)["weight"].item() == np.float32((2.0**25 + 4) / 5)


@pytest.mark.parametrize(("states", "weights"), [([], []), ([state(1.0)], [0])])
def test_an_average_of_nothing_is_refused(states, weights):
    with pytest.raises(ValueError, match="an average needs at least one client with examples"):
        average(states, weights)


def test_states_and_weights_must_match():
    with pytest.raises(ValueError, match="zip"):
        average([state(1.0)], [1, 2])


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**31 - 1), st.integers(1, 10_000))
@settings(deadline=None, max_examples=50)
def test_a_cohort_is_sorted_distinct_clients_as_many_as_asked_for_or_all(clients, per_round, seed, number):
    cohort = select(clients, per_round, seed, number)
    assert len(cohort) == min(per_round, clients)
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
