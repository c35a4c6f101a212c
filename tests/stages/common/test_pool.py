import pytest

from stages.common.errors import InputError
from stages.common.packages import package_path
from stages.common.pool import run_seeds


@pytest.mark.parametrize("seeds", [[2], [2, 5, 3]], ids=["one process", "several"])
def test_every_seed_is_run_once_with_its_item_and_what_is_shared(seeds):
    assert run_seeds(pow, {seed: seed + 1 for seed in seeds}, 7) == {seed: seed ** (seed + 1) % 7 for seed in seeds}


def test_results_stand_in_the_order_of_the_seeds():
    assert list(run_seeds(pow, {9: 1, 1: 1, 4: 1})) == [9, 1, 4]


@pytest.mark.parametrize("packages", [["absent-one"], ["absent-one", "absent-two"]], ids=["one process", "several"])
def test_a_users_mistake_in_a_seed_reaches_the_command_as_it_was(packages):
    with pytest.raises(InputError, match="package absent-one: not installed; install it"):
        run_seeds(package_path, dict.fromkeys(packages, "file.txt"))


def test_a_defect_in_a_seed_is_no_users_mistake():
    with pytest.raises(ZeroDivisionError):
        run_seeds(divmod, {7: 0, 8: 0})
