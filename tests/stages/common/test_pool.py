import os

import pytest

from stages.common.errors import InputError
from stages.common.packages import package_path
from stages.common.pool import PROCESSES, run_seeds, share


@pytest.mark.parametrize("seeds", [[2], [2, 5, 3]], ids=["one process", "several"])
def test_every_seed_is_run_once_with_its_item_and_what_is_shared(seeds):
    assert run_seeds(pow, {seed: seed + 1 for seed in seeds}, 7) == {seed: seed ** (seed + 1) % 7 for seed in seeds}


def test_results_stand_in_the_order_of_the_seeds():
    assert list(run_seeds(pow, {9: 1, 1: 1, 4: 1})) == [9, 1, 4]


@pytest.mark.parametrize("packages", [["absent-one"], ["absent-one", "absent-two"]], ids=["one process", "several"])
def test_a_users_mistake_in_a_seed_reaches_the_command_as_it_was(packages):
    with pytest.raises(InputError, match="package absent-one: not installed; install it"):
        run_seeds(package_path, dict.fromkeys(packages, "file.txt"))


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_processes_than_allowed(monkeypatch, most):
    monkeypatch.setenv(PROCESSES, str(most))
    # The workers can import no function of this module; what is built in takes the seed for its code.
    ran_in = set(run_seeds(eval, {f"{number} and __import__('os').getpid()": {} for number in range(1, 5)}).values())
    assert len(ran_in) <= most
    assert (os.getpid() in ran_in) == (most == 1)


@pytest.mark.parametrize(
    ("most", "seeds", "shared"), [(1, 1, (1, 1)), (1, 3, (1, 1)), (2, 3, (2, 1)), (2, 2, (2, 1)), (4, 3, (1, 4))]
)
def test_more_processes_than_seeds_are_for_one_seed_at_a_time(monkeypatch, most, seeds, shared):
    monkeypatch.setenv(PROCESSES, str(most))
    assert share(seeds) == shared


def test_seeds_that_take_turns_run_in_this_process():
    assert run_seeds(eval, {"1 and __import__('os').getpid()": {}, "2 and 3": {}}, at_once=1) == {
        "1 and __import__('os').getpid()": os.getpid(),
        "2 and 3": 3,
    }


@pytest.mark.parametrize("given", ["0", "two", "-1", ""])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv(PROCESSES, given)
    with pytest.raises(InputError, match=f"ASSAY_PROCESSES: '{given}'; give a whole number, 1 or more"):
        run_seeds(pow, {1: 1, 2: 2}, 7)


def test_a_defect_in_a_seed_is_no_users_mistake():
    with pytest.raises(ZeroDivisionError):
        run_seeds(divmod, {7: 0, 8: 0})
