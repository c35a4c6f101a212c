import pytest

from stages.common.errors import InputError
from stages.common.settings import parse
from stages.fitting.settings import CellSettings
from tests.stages.conftest import FITTED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, r"toy.seeds: \[\] is not allowed"),
        ({"seeds": [1, 1]}, r"toy.seeds: \[1, 1\] is not allowed; each seed must be given once"),
        ({"seeds": [-1]}, r"toy.seeds.0: -1 is not allowed; input should be greater than or equal to 0"),
        ({"seeds": [2**31]}, r"toy.seeds.0: 2147483648 is not allowed; input should be less than 2147483648"),
        ({"train_on": "member"}, "train_on: member needs `partition`, one with `membership`"),
        ({"batch_size": 0}, "toy.batch_size: 0 is not allowed"),
        ({"learning_rate": 0.0}, "toy.learning_rate: 0.0 is not allowed"),
        ({"learning_rate": float("inf")}, "toy.learning_rate: inf is not allowed"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_key(changes, message):
    with pytest.raises(InputError, match=message):
        parse(CellSettings, FITTED | changes, "toy")


def test_a_cell_on_a_split_of_a_partition_is_allowed():
    assert parse(CellSettings, FITTED | {"train_on": "reserve", "partition": "halves"}, "toy").role == "model"
