import pickle

import pytest

from stages.common.cells import Cell, Place
from stages.common.errors import InputError, SettingError
from stages.common.settings import Settings


@pytest.fixture
def error():
    return InputError("params.yaml: toy.seeds", "'x' is\nnot allowed", "give a number")


def test_the_message_is_one_line_of_place_problem_and_remedy(error):
    assert str(error) == "params.yaml: toy.seeds: 'x' is not allowed; give a number"


def test_it_survives_the_way_from_a_process_to_its_parent(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.where, copy.problem, copy.remedy, str(copy)) == (error.where, error.problem, error.remedy, str(error))


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("epochs", "toy.train.variant.a.epochs"),
        ("privacy.epsilon", "toy.train.base.privacy.epsilon"),
        ("epsilon", "toy.train.base.epsilon"),
        ("grid", "toy.train.grid"),
    ],
)
def test_a_cell_names_where_a_setting_stands(setting, where):
    cell = Cell(Place("toy", "train", "a"), Settings(), {"epochs": "toy.train.variant.a", "privacy": "toy.train.base"})
    with pytest.raises(InputError, match=f"^params.yaml: {where}: is wrong; mend it$"), cell.naming():
        raise SettingError(setting, "is wrong", "mend it")


def test_what_names_begin_with_elsewhere_is_left_out():
    cell = Cell(Place("toy", "invert", "a"), Settings(), {"epsilon": "toy.invert.variant.a"})
    with pytest.raises(InputError, match=r"toy\.invert\.variant\.a\.epsilon"), cell.naming(without="privacy."):
        raise SettingError("privacy.epsilon", "is wrong", "mend it")
