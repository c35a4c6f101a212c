"""What is read of a partition, and what it does not hold."""

import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.common.partitions import read_partition


def test_a_partition_gives_one_seed_and_split(study):
    held = read_partition("halves", 1, "member")
    table = pd.read_parquet("data/partitions/halves/clients.parquet")
    expected = table[(table["seed"] == 1) & (table["split"] == "member")]
    assert held.to_dict("list") == expected[["example_id", "client_id"]].to_dict("list")


@pytest.mark.parametrize(
    ("seed", "split", "message"),
    [
        (2, "member", r"clients.parquet: has no seed 2; add it to params.yaml: partitions.halves.seeds"),
        (0, "train", r"clients.parquet: has no split train; it has: member, nonmember, reserve"),
    ],
)
def test_what_a_partition_does_not_hold_is_refused(study, seed, split, message):
    with pytest.raises(InputError, match=message):
        read_partition("halves", seed, split)
