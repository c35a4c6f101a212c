"""How examples are dealt to clients: pure functions of the data, the parameters and a private generator.

`label_shift` and `quantity_shift` are those of the FedNLP paper's code (Lin et al. 2022, arXiv 2104.08815;
github.com/FedML-AI/FedNLP).
"""

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS

DRAWS = 10_000


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

    FedNLP's equal-size scheme. It is NOT the common "Dirichlet per label over the clients" (`label_dirichlet`), under
    which sizes differ too: the same alpha means different data there. Clients are served in turn; one whose label has
    run out gets rows at random from all that is left (FedNLP: the same shares, rounded), and the last client also
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


def label_dirichlet(
    labels: NDArray[np.int64], clients: int, alpha: float, least: int, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal each label's examples by its own draw of shares of the clients, Dirichlet(alpha, ..., alpha).

    The scheme of Yurochkin et al. 2019 (arXiv 1905.12022, section 4) and, without its balancing of sizes, of
    flwr-datasets' DirichletPartitioner. A draw that leaves a client fewer than `least` examples is drawn again.

    Args:
        labels: (n,) integer label of each example.
        clients: Number of clients.
        alpha: Concentration: large means every client is like the whole, small means each label with few clients.
        least: The fewest examples that a client may hold.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (n,) client index of each example.

    Raises:
        InputError: Too few examples for that many clients, or no draw in DRAWS gave every client enough.
    """
    return _by_label(labels, clients, ("alpha", alpha), least, generator, key)


def quantity_shift(
    count: int, clients: int, beta: float, least: int, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal examples at random into clients whose shares of the whole are one draw of Dirichlet(beta, ..., beta).

    A draw that leaves a client fewer than `least` examples is drawn again, so sizes are a little more even than the
    Dirichlet's own.

    Args:
        count: Number of examples.
        clients: Number of clients.
        beta: Concentration: large means equal sizes, small means a few clients hold nearly everything.
        least: The fewest examples that a client may hold.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (count,) client index of each example.

    Raises:
        InputError: Too few examples for that many clients, or no draw in DRAWS gave every client enough.
    """
    # One label of all.
    return _by_label(np.zeros(count, dtype=np.int64), clients, ("beta", beta), least, generator, key)


def power_law(
    count: int, clients: int, exponent: float, least: int, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal examples at random into clients whose sizes follow Zipf's law: the r-th largest's share is as r**-exponent.

    Clients that would hold fewer than `least` hold just that, and the others share the rest by the law, rounded by
    largest remainders. Sizes are the same under every seed; which client has which is drawn.

    Args:
        count: Number of examples.
        clients: Number of clients.
        exponent: Small means sizes nearly equal, large means that the first client holds nearly everything.
        least: The fewest examples that a client may hold.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (count,) client index of each example.

    Raises:
        InputError: Too few examples for that many clients.
    """
    _check_enough(count, clients, key, least)
    sizes = _by_power(count, clients, exponent, least)
    return generator.permutation(np.repeat(generator.permutation(clients), sizes))


def shards(
    labels: NDArray[np.int64], clients: int, shards_per_client: int, generator: np.random.Generator, key: str
) -> NDArray[np.int64]:
    """Deal examples, sorted by label and cut into shards, so many shards to each client: few labels each.

    The "pathological" scheme of McMahan et al. 2017 (arXiv 1602.05629, section 3). Sizes of shards differ by one at
    most; which examples of a label are in which shard, and which shards a client gets, is drawn.

    Args:
        labels: (n,) integer label of each example.
        clients: Number of clients.
        shards_per_client: Shards that each client gets.
        generator: Source of every draw.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (n,) client index of each example; every client holds at least `shards_per_client`.

    Raises:
        InputError: More shards than examples.
    """
    _check_enough(len(labels), clients, key, shards_per_client)
    count = clients * shards_per_client
    rows = generator.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    shard = _cut(rows, np.diff(np.arange(count + 1) * len(labels) // count))
    return generator.permutation(count)[shard] % clients


def natural(values: NDArray[np.object_]) -> NDArray[np.int64]:
    """Deal one client per value: (n,) values -> (n,) client index, in the sorted order of the values."""
    client: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return client


def clusters(vectors: NDArray[np.float64], count: int, generator: np.random.Generator, key: str) -> NDArray[np.int64]:
    """Return the cluster of each of n vectors (n, d), by k-means (k-means++, the best of four starts).

    Raises:
        InputError: More clusters than different vectors.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if (different := len(np.unique(vectors, axis=0))) < count:
        where = f"{PARAMETERS}: {key}.clusters"
        raise InputError(where, f"{count} clusters of {different} different vectors", f"at most {different}")
    start = int(generator.integers(2**31))
    # The sums of several threads are rounded otherwise, and a text between two clusters would change sides.
    with threadpool_limits(1):
        found = KMeans(count, n_init=4, random_state=start).fit_predict(vectors.astype(np.float64))
    cluster: NDArray[np.int64] = found.astype(np.int64)
    return cluster


def periods(values: NDArray[np.object_], count: int, key: str) -> NDArray[np.int64]:
    """Return the period of each example, 0 the earliest: as many examples in each as whole values allow.

    Args:
        values: (n,) when each example is from, as text that sorts in time; examples of one value stay together.
        count: Number of periods.
        key: Dotted key of the partition in params.yaml, for errors.

    Returns:
        (n,) period of each example; none is empty.

    Raises:
        InputError: More periods than values, or a value that holds so many examples that a period is empty.
    """
    found, value, sizes = np.unique(values, return_inverse=True, return_counts=True)
    # A value is in the period that the middle of its examples falls in.
    middle = np.cumsum(sizes) - sizes / 2
    period: NDArray[np.int64] = np.floor(middle / len(values) * count).astype(np.int64)[value]
    if len(np.unique(period)) < count:
        raise InputError(
            f"{PARAMETERS}: {key}.periods.count",
            f"a period is empty: {len(found)} values, the most frequent in {sizes.max()} of {len(values)} examples",
            f"ask for fewer than {count} periods, or name a column with more values",
        )
    return period


def periods_among(
    values: NDArray[np.object_], known: NDArray[np.object_], period: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the periods of further examples by the bounds of periods that others are in.

    Args:
        values: (m,) when each further example is from.
        known: (n,) when each of the others is from.
        period: (n,) the period of each of these, as `periods` gives it.

    Returns:
        (m,) the period of the latest known value that is not after the example's own; 0 if it is before all.
    """
    found, first = np.unique(known, return_index=True)
    place = np.searchsorted(found, values, side="right") - 1
    return period[first[np.maximum(place, 0)]]


def _by_label(
    labels: NDArray[np.int64],
    clients: int,
    concentration: tuple[str, float],
    least: int,
    generator: np.random.Generator,
    key: str,
) -> NDArray[np.int64]:
    # (n,) client of each example: each label's by its own draw of shares, all anew until every client has enough.
    _check_enough(len(labels), clients, key, least)
    (name, value), labels = concentration, np.unique(labels, return_inverse=True)[1]
    pool = np.bincount(labels)
    for _ in range(DRAWS):
        sizes = _sizes(generator.dirichlet(np.full(clients, value), size=len(pool)), pool[:, None])
        if sizes.sum(axis=0).min() >= least:
            rows = generator.permutation(len(labels))
            rows = rows[np.argsort(labels[rows], kind="stable")]
            return _cut(rows, sizes.ravel()) % clients
    fewer = "any" if least == 1 else f"{least}"
    raise InputError(
        f"{PARAMETERS}: {key}.{name}",
        f"{value} left one of {clients} clients without {fewer} of {len(labels)} examples in each of {DRAWS} draws",
        f"raise {name} or lower clients",
    )


def _by_power(count: int, clients: int, exponent: float, least: int) -> NDArray[np.int64]:
    # (clients,) sizes, the largest first.
    ranks = np.arange(1, clients + 1)
    weights = ranks**-exponent
    # The first r share what is left once all others hold `least`; of these heads, the longest that pays its last.
    left, total = count - least * (clients - ranks), np.cumsum(weights)
    head = int(np.flatnonzero(left * weights / total >= least)[-1])
    shares = left[head] * weights[: head + 1] / total[head]
    sizes = np.full(clients, least)
    sizes[: head + 1] = np.floor(shares)
    largest = np.argsort(np.floor(shares) - shares, kind="stable")
    sizes[largest[: count - sizes.sum()]] += 1
    return sizes


def _sizes(shares: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    # Shares (..., clients) -> examples, rounded down where one client ends and the next begins.
    ends = np.floor(np.cumsum(shares, axis=-1) * count)
    ends[..., -1:] = count  # the cumulative sum may fall short of one
    sizes: NDArray[np.int64] = np.diff(np.minimum(ends, count), axis=-1, prepend=0).astype(np.int64)
    return sizes


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


def _check_enough(count: int, clients: int, key: str, least: int = 1) -> None:
    if clients * least > count:
        of_each = f" with {least} examples each" if least > 1 else ""
        raise InputError(
            f"{PARAMETERS}: {key}.clients",
            f"{clients} clients{of_each} are more than the {count} examples to deal",
            f"at most {count // least}, so that every client holds {'one' if least == 1 else least}",
        )
