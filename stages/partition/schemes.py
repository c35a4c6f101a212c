"""How examples are dealt to clients: pure functions of the data, the parameters and a private generator.

Sections are those of the FedNLP paper's code (Lin et al. 2022, arXiv 2104.08815; github.com/FedML-AI/FedNLP).
"""

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS

QUANTITY_DRAWS = 10_000


def iid(count: int, clients: int, generator: np.random.Generator, key: str) -> NDArray[np.int64]:
    """Deal examples at random into clients whose sizes differ by one at most.

    Args:
        count: Number of examples.
        clients: Number of clients.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (count,) client index of each example; every client holds at least one.

    Raises:
        InputError: More clients than examples.
    """
    _check_enough(count, clients, key)
    return generator.permutation(np.arange(count) % clients)


def label_shift(
    labels: NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal equal sizes, each client's labels following its own draw q ~ Dirichlet(alpha * label frequencies).

    FedNLP's equal-size scheme. It is NOT the common "Dirichlet per label over the clients", under which sizes
    differ too: the same alpha means different data there. Clients are served in turn; one whose label has run
    out gets rows at random from all that is left (FedNLP: the same shares, rounded), and the last client also
    gets the n mod `clients` rows left over. Shares are rounded to whole rows and the last label takes the rest,
    so clients with fewer rows than there are labels want the last label, until it has run out, at any alpha.

    Args:
        labels: (n,) integer label of each example.
        clients: Number of clients.
        alpha: Concentration: large means every client is like the whole, small means nearly one label each.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (n,) client index of each example; every client holds at least one.

    Raises:
        InputError: More clients than examples.
    """
    _check_enough(len(labels), clients, key)
    labels = np.unique(labels, return_inverse=True)[1]
    pool = np.bincount(labels)
    size = len(labels) // clients
    # numpy's Generator draws no NaN here, so none is drawn again; it only wants numbers above zero.
    concentration = np.maximum(alpha * (pool / len(labels)), np.finfo(np.float64).tiny)
    wanted = _rounded(generator.dirichlet(concentration, size=clients), size)
    taken = _served(wanted, pool, generator)
    rows = generator.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    return _cut(rows, taken.T.ravel()) % clients


def quantity_shift(
    count: int, clients: int, beta: float, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal examples at random into clients whose shares of the whole are one draw of Dirichlet(beta, ..., beta).

    A draw that leaves a client without an example is drawn again, so sizes are a little more even than the
    Dirichlet's own.

    Args:
        count: Number of examples.
        clients: Number of clients.
        beta: Concentration: large means equal sizes, small means a few clients hold nearly everything.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (count,) client index of each example; every client holds at least one.

    Raises:
        InputError: More clients than examples, or no draw in QUANTITY_DRAWS gave every client an example.
    """
    _check_enough(count, clients, key)
    for _ in range(QUANTITY_DRAWS):
        ends = np.floor(np.cumsum(generator.dirichlet(np.full(clients, beta))) * count)
        ends[-1] = count  # the cumulative sum may fall short of one
        sizes = np.diff(ends, prepend=0)
        if sizes.min() >= 1:
            return _cut(generator.permutation(count), sizes.astype(np.int64))
    raise InputError(
        f"{PARAMETERS}: {key}.beta",
        f"{beta} left one of {clients} clients without any of {count} examples in each of {QUANTITY_DRAWS} draws",
        "raise beta or lower clients",
    )


def natural(values: NDArray[np.object_]) -> NDArray[np.int64]:
    """Deal one client per value: (n,) values -> (n,) client index, in the sorted order of the values."""
    client: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return client


def _rounded(shares: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    # (clients, labels) shares -> rows. Label by label until the client is full; the last label takes the rest.
    ends = np.minimum(np.cumsum(np.rint(shares * size), axis=1), size)
    ends[:, -1] = size
    rows: NDArray[np.int64] = np.diff(ends, axis=1, prepend=0).astype(np.int64)
    return rows


def _served(wanted: NDArray[np.int64], pool: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    # (clients, labels) rows wanted -> rows got, which use up the pool exactly.
    taken, pool = np.empty_like(wanted), pool.copy()
    for client, want in enumerate(wanted):
        take = np.minimum(want, pool)
        pool -= take
        fill = generator.multivariate_hypergeometric(pool, want.sum() - take.sum())
        pool -= fill
        taken[client] = take + fill
    taken[-1] += pool
    return taken


def _cut(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    # The first sizes[0] rows go to part 0, the next sizes[1] to part 1, and so on.
    part = np.empty(len(rows), dtype=np.int64)
    part[rows] = np.repeat(np.arange(len(sizes)), sizes)
    return part


def _check_enough(count: int, clients: int, key: str) -> None:
    if clients > count:
        raise InputError(
            f"{PARAMETERS}: {key}.clients",
            f"{clients} clients are more than the {count} examples to deal",
            f"at most {count}, so that every client holds one",
        )
