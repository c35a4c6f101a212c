"""Examples that come period by period, of which devices keep some: continual federated learning."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import artifacts
from stages.common.errors import SettingError
from stages.common.paths import partition_path
from stages.federate.settings import Continual


class HeldOut(NamedTuple):
    """Who holds the test examples of a natural partition, and when they are from.

    Attributes:
        devices: (n,) of the client's name; missing where no client is known.
        periods: (n,) from 0.
    """

    devices: NDArray[np.object_]
    periods: NDArray[np.int64]


def periods(partition: str, seed: int, example_ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the (n,) period of each training example, from 0.

    Raises:
        SettingError: The partition has no periods.
    """
    table = artifacts.read_table(partition_path(partition))
    of_seed = table[table["seed"] == seed].set_index("example_id")
    found: NDArray[np.int64] = of_seed["period"].reindex(list(example_ids)).to_numpy(dtype=np.int64)
    if found.max() == 0:
        remedy = "give it `periods`, a column of times and their number"
        raise SettingError("continual", f"partition `{partition}` has no periods", remedy)
    return found


def held_out(partition: str, example_ids: NDArray[np.object_]) -> HeldOut | None:
    """Return who holds each test example and when it is from, or None if the partition does not say."""
    table = artifacts.read_table(partition_path(partition))
    table = table[table["split"] == "test"].set_index("example_id")
    if table.empty:
        return None
    table = table.reindex(list(example_ids))
    names = table["client_id"].astype(object).where(table["client_id"].notna(), None)
    return HeldOut(names.to_numpy(dtype=object), table["period"].to_numpy(dtype=np.int64))


def live(settings: Continual, clients: NDArray[np.str_], of: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """Return the rows of the examples that devices hold in a period, in their order.

    Args:
        settings: What they keep.
        clients: (n,) who holds each example.
        of: (n,) period of each example.
        period: From 0.
    """
    first = 0 if settings.retention == "all" else period - settings.retention + 1
    rows = np.flatnonzero((of >= first) & (of <= period))
    if settings.most is None:
        return rows
    # The latest of each device: of the last periods, and within one the last.
    latest = pd.DataFrame({"client": clients[rows], "period": of[rows], "row": rows}).sort_values(["period", "row"])
    kept: NDArray[np.int64] = np.sort(latest.groupby("client").tail(settings.most)["row"].to_numpy())
    return kept
