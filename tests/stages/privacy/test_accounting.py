import re

import pytest

from stages.common.errors import SettingError
from stages.privacy import accounting
from stages.privacy.accounting import REPLACE, Mechanism, Phase, decaying

DELTA = 1e-5


def spent(noise, probability, steps, delta, group=1):
    return accounting.epsilon(Mechanism(probability, (Phase(steps, noise),), group), delta)


def enough(target, probability, steps, delta, decay=1.0, group=1):
    return accounting.noise_multiplier(target, delta, lambda noise: decaying(probability, steps, noise, decay, group))


SNIPS, ATIS, SST2 = (256 / 13084, 511), (256 / 4478, 175), (256 / 67349, 2631)


@pytest.mark.parametrize(
    ("run", "noise", "epsilon"),
    [
        (SNIPS, 2.005, 0.91),
        (SNIPS, 1.017, 2.64),
        (SNIPS, 0.687, 6.93),
        (SNIPS, 1.862, 1.0),
        (SNIPS, 0.959, 3.0),
        (ATIS, 3.277, 0.91),
        (ATIS, 1.442, 2.70),
        (ATIS, 0.860, 7.05),
        (SST2, 1.122, 0.83),
        (SST2, 0.730, 2.37),
        (SST2, 0.543, 6.68),
    ],
)
def test_epsilon_is_that_of_the_worked_table(run, noise, epsilon):
    assert spent(noise, *run, DELTA) == pytest.approx(epsilon, abs=0.01)


def test_one_step_on_all_data_is_the_gaussian_mechanism():
    # Balle and Wang 2018, theorem 8: noise 1 gives delta 1e-5 at epsilon 4.377.
    assert spent(1.0, 1.0, 1, DELTA) == pytest.approx(4.377, abs=0.003)


@pytest.mark.parametrize(
    "weaker",
    [(0.95, *SNIPS), (1.0, SNIPS[0] * 1.1, SNIPS[1]), (1.0, SNIPS[0], SNIPS[1] + 50)],
    ids=["less noise", "larger batches", "more steps"],
)
def test_epsilon_rises_with(weaker):
    assert spent(*weaker, DELTA) > spent(1.0, *SNIPS, DELTA) + 0.01


def test_epsilon_falls_with_delta():
    assert spent(1.0, *SNIPS, 1e-4) < spent(1.0, *SNIPS, 1e-5)


@pytest.mark.parametrize(("target", "run"), [(3.0, (1.0, 8)), (3.0, (0.2, 20))])
def test_the_noise_is_enough_and_hardly_more(target, run):
    noise = enough(target, *run, DELTA)
    assert spent(noise, *run, DELTA) <= target
    assert spent(noise - 2e-3, *run, DELTA) > target


def test_an_epsilon_that_asks_for_next_to_no_noise_is_refused():
    with pytest.raises(SettingError, match=r"8 at delta 0.01 asks for less noise than 0.1 clipping"):
        enough(8.0, 0.001, 1, 0.01)


@pytest.mark.parametrize(
    ("target", "run", "message"),
    [
        (50.0, (1.0, 1), "less noise than 0.5 clipping norms"),
        (50.0, (0.1, 20), "less noise than 0.5 clipping norms"),
        (1e-7, (1.0, 10), "more noise than 1000 clipping norms"),
        (1e-4, (0.5, 50), "more noise than 1000 clipping norms"),
    ],
)
def test_an_epsilon_out_of_reach_is_refused_with_one_that_is_not(target, run, message, monkeypatch):
    # At 0.1 the accountant takes many seconds.
    monkeypatch.setattr(accounting, "LEAST_NOISE", 0.5)
    with pytest.raises(SettingError, match=message) as refused:
        enough(target, *run, DELTA)
    nearest = float(re.search(r"give at (?:most|least) ([\d.e-]+)", refused.value.remedy)[1])
    noise = enough(nearest, *run, DELTA)
    assert spent(noise, *run, DELTA) <= nearest
    assert accounting.LEAST_NOISE <= noise <= accounting.MOST_NOISE


def test_a_delta_that_asks_for_next_to_no_noise_at_any_epsilon_is_the_one_to_change(monkeypatch):
    monkeypatch.setattr(accounting, "LEAST_NOISE", 0.5)
    with pytest.raises(SettingError) as refused:
        enough(8.0, 0.001, 1, 0.01)
    assert refused.value.remedy == "give a smaller delta: at this one 0.5 has epsilon 0"


@pytest.mark.parametrize(
    ("run", "noise", "honest", "claimed"),
    [
        (SNIPS, 2.005, 1.74, 1.0),
        (SNIPS, 1.017, 4.06, 3.0),
        (SNIPS, 0.687, 8.63, 8.0),
        (ATIS, 3.277, 1.82, 1.0),
        (ATIS, 1.442, 4.69, 3.0),
        (SST2, 1.122, 1.41, 1.0),
    ],
)
def test_groups_cost_more_than_is_usually_claimed(run, noise, honest, claimed):
    probability, steps = run
    groups = Mechanism(probability, (Phase(steps, noise),), group=4)
    assert accounting.epsilon(groups, DELTA) == pytest.approx(honest, abs=0.01)
    assert accounting.claimed_epsilon(groups, DELTA) == pytest.approx(claimed, abs=0.05)


def test_under_replacement_groups_cost_what_single_examples_do():
    probability, steps = SNIPS
    single, groups = (Mechanism(probability, (Phase(steps, 1.0),), group) for group in (1, 4))
    assert accounting.epsilon(single, DELTA, REPLACE) == accounting.epsilon(groups, DELTA)


def test_groups_under_adding_or_removing_one_are_refused():
    with pytest.raises(ValueError, match="under the replacement of one only"):
        accounting.epsilon(Mechanism(0.1, (Phase(1, 1.0),), 2), DELTA, accounting.ADD_OR_REMOVE)


@pytest.mark.parametrize(("noise", "claimed", "honest"), [(2.005, 3.58, 3.87), (1.017, 21.6, 20.0)])
def test_a_decaying_schedule_is_composed_as_it_runs(noise, claimed, honest):
    probability = SNIPS[0]
    single, groups = (decaying(probability, 510, noise, 0.9, group) for group in (1, 4))
    assert [phase.steps for phase in groups.schedule] == [51] * 10
    assert groups.schedule[-1].noise_multiplier == pytest.approx(noise * 0.9**9)
    assert accounting.claimed_epsilon(single, DELTA) == pytest.approx(claimed, rel=0.01)
    assert accounting.epsilon(groups, DELTA) == pytest.approx(honest, rel=0.01)


@pytest.mark.parametrize(
    ("target", "decay", "group", "noise"), [(1.0, 0.95, 1, 2.43), (3.0, 1.0, 4, 1.27), (3.0, 0.95, 4, 1.65)]
)
def test_the_whole_schedule_is_calibrated(target, decay, group, noise):
    assert enough(target, SNIPS[0], 510, DELTA, decay, group) == pytest.approx(noise, abs=0.01)


def test_the_statement_says_what_epsilon_holds_under():
    statement = accounting.statement(Mechanism(ATIS[0], (Phase(175, 1.442),)), DELTA, clipping_norm=0.5)
    assert statement.pop("epsilon") == pytest.approx(2.70, abs=0.006)
    assert statement.pop("replace_one_epsilon") == pytest.approx(4.69, abs=0.006)
    assert statement.pop("claimed_epsilon") == pytest.approx(3.0, abs=0.01)
    assert statement == {
        "delta": 1e-5,
        "unit": "example",
        "covers": "the weights of this one model; not the losses and metrics measured on the training examples",
        "composition": "models of other seeds and cells saw the same examples: releasing several adds up",
        "randomness": "seeded, so that anybody can repeat it; the guarantee asks for a secret seed",
        "adjacency": "add or remove one example",
        "clipped": "example",
        "sampler": {"kind": "poisson", "of": "example", "probability": 256 / 4478},
        "accountant": {"kind": "privacy loss distribution", "package": "dp-accounting", "discretization": 1e-3},
        "clipping_norm": 0.5,
        "schedule": [{"steps": 175, "noise_multiplier": 1.442}],
    }


def test_noise_that_falls_for_many_passes_is_calibrated():
    # It begins its search where the last of 40 passes would have next to no noise.
    noise = enough(8, 256 / 1300, 200, 1e-4, decay=0.95)
    assert accounting.epsilon(decaying(256 / 1300, 200, noise, 0.95), 1e-4) == pytest.approx(8, abs=0.05)


def test_thousands_of_steps_are_calibrated():
    # The grid that the search begins on says more than twice too much of them.
    noise = enough(0.5, 0.01, 10_000, 1e-6)
    assert accounting.epsilon(decaying(0.01, 10_000, noise, 1), 1e-6) == pytest.approx(0.5, abs=1e-3)
