import pytest

from stages.common.errors import SettingError
from stages.train import accounting

DELTA = 1e-5
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
    assert accounting.epsilon(noise, *run, DELTA) == pytest.approx(epsilon, abs=0.01)


def test_one_step_on_all_data_is_the_gaussian_mechanism():
    # Balle and Wang 2018, theorem 8: noise 1 gives delta 1e-5 at epsilon 4.377.
    assert accounting.epsilon(1.0, 1.0, 1, DELTA) == pytest.approx(4.377, abs=0.003)


@pytest.mark.parametrize(
    "weaker",
    [(0.95, *SNIPS), (1.0, SNIPS[0] * 1.1, SNIPS[1]), (1.0, SNIPS[0], SNIPS[1] + 50)],
    ids=["less noise", "larger batches", "more steps"],
)
def test_epsilon_rises_with(weaker):
    assert accounting.epsilon(*weaker, DELTA) > accounting.epsilon(1.0, *SNIPS, DELTA) + 0.01


def test_epsilon_falls_with_delta():
    assert accounting.epsilon(1.0, *SNIPS, 1e-4) < accounting.epsilon(1.0, *SNIPS, 1e-5)


@pytest.mark.parametrize(("target", "run"), [(3.0, (1.0, 8)), (3.0, (0.2, 20))])
def test_the_noise_is_enough_and_hardly_more(target, run):
    noise = accounting.noise_multiplier(target, *run, DELTA)
    assert accounting.epsilon(noise, *run, DELTA) <= target
    assert accounting.epsilon(noise - 2e-3, *run, DELTA) > target


def test_an_epsilon_that_asks_for_next_to_no_noise_is_refused():
    with pytest.raises(SettingError, match=r"8 at delta 0.01 asks for less noise than 0.1 clipping"):
        accounting.noise_multiplier(8.0, 0.001, 1, 0.01)


def test_the_statement_says_what_epsilon_holds_under():
    statement = accounting.statement(1.442, *ATIS, DELTA, clipping_norm=0.5)
    assert statement.pop("epsilon") == pytest.approx(2.70, abs=0.006)
    assert statement == {
        "delta": 1e-5,
        "unit": "example",
        "covers": "the weights of this one model; not the losses and metrics measured on the training examples",
        "composition": "models of other seeds and cells saw the same examples: releasing several adds up",
        "randomness": "seeded, so that anybody can repeat it; the guarantee asks for a secret seed",
        "adjacency": "add or remove one example",
        "sampler": {"kind": "poisson", "probability": 256 / 4478},
        "accountant": {"kind": "privacy loss distribution", "package": "dp-accounting", "discretization": 1e-3},
        "clipping_norm": 0.5,
        "schedule": [{"steps": 175, "noise_multiplier": 1.442}],
    }
