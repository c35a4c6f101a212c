import pickle

import pytest

from stages.common.errors import InputError


@pytest.fixture
def error():
    return InputError("params.yaml: toy.seeds", "'x' is\nnot allowed", "give a number")


def test_the_message_is_one_line_of_place_problem_and_remedy(error):
    assert str(error) == "params.yaml: toy.seeds: 'x' is not allowed; give a number"


def test_it_survives_the_way_from_a_process_to_its_parent(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.where, copy.problem, copy.remedy, str(copy)) == (error.where, error.problem, error.remedy, str(error))
