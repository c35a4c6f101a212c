"""What a partition is like: how many examples each client holds, and how its labels differ from the whole's.

Every function takes `counts`: (clients, labels) examples, no client empty.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.measurements import Measurement

SHOWN_CLIENTS = 100


def label_counts(client: NDArray[np.int64], label: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Count examples: (n,) client and (n,) label indices -> (clients, labels)."""
    clients = int(client.max()) + 1
    return np.bincount(client * labels + label, minlength=clients * labels).reshape(clients, labels)


def effective_clients(counts: NDArray[np.int64]) -> float:
    """Return 1 / sum of squared shares of the examples: the number of clients if sizes are equal, else fewer."""
    shares = counts.sum(axis=1) / counts.sum()
    return float(1 / np.sum(shares**2))


def label_divergence(counts: NDArray[np.int64]) -> float:
    """Return the Jensen-Shannon divergence of a client's labels from the whole's, in bits (0 to 1).

    The mean over clients, each weighted by its examples (Lin 1991, both distributions weighted by a half).
    """
    sizes = counts.sum(axis=1, keepdims=True)
    whole = counts.sum(axis=0) / counts.sum()
    local = counts / sizes
    divergence = _entropy((local + whole) / 2) - (_entropy(local) + _entropy(whole)) / 2
    # Rounding may leave a hair below zero.
    return max(0.0, float(np.average(divergence, weights=sizes[:, 0])))


def measure(counts: NDArray[np.int64], split: NDArray[np.str_]) -> dict[str, Measurement]:
    """Return the measurements of one dealing: of the clients under `train`, and the examples of each split.

    They describe the dealing wholly, so none has an interval. `split` is (n,), the split of every example.
    """
    sizes = counts.sum(axis=1)
    values = {
        "clients": len(sizes),
        "effective_clients": effective_clients(counts),
        "label_divergence": label_divergence(counts),
        "smallest_client": sizes.min(),
        "largest_client": sizes.max(),
    }
    measured = {f"train/{metric}": Measurement(float(value), int(sizes.sum())) for metric, value in values.items()}
    for name, size in zip(*np.unique(split, return_counts=True), strict=True):
        measured[f"{name}/examples"] = Measurement(float(size), int(size))
    return measured


def holdings(counts: NDArray[np.int64], labels: NDArray[np.object_], seed: int) -> pd.DataFrame:
    """Return who holds what, for a figure: seed, client, label, count (zero counts left out).

    Only the SHOWN_CLIENTS largest clients are kept. A client is named by its rank (0 is the largest), never by
    its id, which may be a person's.
    """
    largest = np.argsort(-counts.sum(axis=1), kind="stable")[:SHOWN_CLIENTS]
    rank, label = np.nonzero(counts[largest])
    return pd.DataFrame({"seed": seed, "client": rank, "label": labels[label], "count": counts[largest][rank, label]})


def _entropy(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    # In bits, along the last axis; 0 log 0 is 0.
    logarithm = np.log2(distribution, out=np.zeros_like(distribution), where=distribution > 0)
    return np.asarray(-np.sum(distribution * logarithm, axis=-1))
