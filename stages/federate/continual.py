"""Examples that come period by period, of which devices keep some: continual federated learning."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.federate.settings import Continual


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
