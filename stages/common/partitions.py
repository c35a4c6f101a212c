"""Reads a partition's table: who holds which example, in what split, and from what period."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import artifacts
from stages.common.errors import InputError, SettingError
from stages.common.paths import partition_path


class HeldOut(NamedTuple):
    """Who holds the test examples of a natural partition, and when they are from.

    Attributes:
        devices: (n,) of the client's name; missing where no client is known.
        periods: (n,) from 0.
    """

    devices: NDArray[np.object_]
    periods: NDArray[np.int64]


def read_partition(partition: str, seed: int, split: str) -> pd.DataFrame:
    """Return example_id and client_id of one seed and split of a partition, in example order."""
    table = _dealing(partition, seed)
    if split not in set(table["split"]):
        have = ", ".join(sorted(table["split"].unique()))
        path = str(partition_path(partition))
        raise InputError(path, f"has no split {split}", f"it has: {have}; member and reserve need `membership`")
    return table[table["split"] == split][["example_id", "client_id"]]


def splits_of(partition: str, seed: int, example_ids: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return (n,) the split of each of n examples under one seed of a partition; InputError if it is of other data."""
    table = _dealing(partition, seed)
    by_id = dict(zip(table["example_id"], table["split"], strict=True))
    if set(by_id) != set(example_ids):
        raise InputError(
            str(partition_path(partition)), "deals other examples than the data set has", "run `dvc repro`"
        )
    return np.array([by_id[name] for name in example_ids], dtype=object)


def periods(partition: str, seed: int, example_ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the (n,) period of each training example, from 0.

    Raises:
        SettingError: The partition has no periods.
    """
    of_seed = _dealing(partition, seed, "period").set_index("example_id")
    found: NDArray[np.int64] = of_seed["period"].reindex(list(example_ids)).to_numpy(dtype=np.int64)
    if found.max() == 0:
        remedy = "give it `periods`, a column of times and their number"
        raise SettingError("continual", f"partition `{partition}` has no periods", remedy)
    return found


def held_out(partition: str, example_ids: NDArray[np.object_]) -> HeldOut | None:
    """Return who holds each test example and when it is from, or None if the partition does not say."""
    columns = ["example_id", "client_id", "split", "period"]
    table = artifacts.read_table(partition_path(partition), columns)
    table = table[table["split"] == "test"].set_index("example_id")
    if table.empty:
        return None
    table = table.reindex(list(example_ids))
    names = table["client_id"].astype(object).where(table["client_id"].notna(), None)
    return HeldOut(names.to_numpy(dtype=object), table["period"].to_numpy(dtype=np.int64))


def _dealing(partition: str, seed: int, *more: str) -> pd.DataFrame:
    path = partition_path(partition)
    table = artifacts.read_table(path, ["seed", "example_id", "client_id", "split", *more])
    if seed not in set(table["seed"]):
        raise InputError(str(path), f"has no seed {seed}", f"add it to params.yaml: partitions.{partition}.seeds")
    return table[table["seed"] == seed]
