"""One seed's dealing: the pool into members, non-members and reserve, then what is held to clients."""

import zlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.partition import schemes
from stages.partition.settings import (
    FeatureShift,
    Iid,
    LabelDirichlet,
    LabelShift,
    Membership,
    Natural,
    PartitionSettings,
    PowerLaw,
    QuantityShift,
    Shards,
)


@dataclass(frozen=True)
class Dealing:
    """Who holds each of n examples under one seed.

    Attributes:
        split: (n,) train; with a membership: member, nonmember or reserve.
        held: (n,) whether a client holds the example: all of train, and the members.
        client: (held,) client index of each held example.
        names: (held,) client id of each held example.
    """

    split: NDArray[np.str_]
    held: NDArray[np.bool_]
    client: NDArray[np.int64]
    names: NDArray[np.object_]


def deal(settings: PartitionSettings, key: str, labels: NDArray[np.int64], values: NDArray[Any], seed: int) -> Dealing:
    """Deal n examples under one seed.

    The halves and the clients come from streams of their own: the same seed gives the same halves under every
    scheme, so that centrally and federatedly trained models can be attacked on the same examples.

    Args:
        settings: The partition.
        key: Its dotted key in params.yaml, for errors.
        labels: (n,) label index of each example.
        values: What else the scheme deals by: (n,) values of a natural partition's column, or (n, d) vectors of the
            texts for a shift of features; unused by the others.
        seed: Seed of this dealing.

    Raises:
        InputError: The settings leave a client, the members or the non-members without an example.
    """
    count = len(labels)
    split = np.full(count, "train")
    if settings.membership is not None:
        split = deal_membership(count, settings.membership, _generator(seed, "membership"), key)
    held = np.isin(split, ["train", "member"])
    client = _deal_clients(settings, key, labels[held], values[held], seed)
    return Dealing(split, held, client, values[held] if isinstance(settings, Natural) else _numbered(client))


def deal_membership(count: int, membership: Membership, generator: np.random.Generator, key: str) -> NDArray[np.str_]:
    """Deal a pool of `count` examples at random: (count,) member, nonmember or reserve.

    Each fraction is of the whole pool, rounded down; what is left is the reserve.
    """
    sizes = []
    for name, fraction in membership.model_dump().items():
        # The decimal as written: 0.29 of 100 is 29, which floating point makes 28.
        sizes.append(int(Decimal(str(fraction)) * count))
        if sizes[-1] == 0:
            where = f"{PARAMETERS}: {key}.membership.{name}"
            raise InputError(where, f"{fraction} of {count} examples is not one example", "raise it")
    return generator.permutation(np.repeat(["member", "nonmember", "reserve"], [*sizes, count - sum(sizes)]))


def client_table(examples: pd.Series, dealing: Dealing, periods: NDArray[np.int64], seed: int) -> pd.DataFrame:
    """Return one row per example id: seed, example_id, client_id (null where no client holds it), split, period."""
    clients = np.full(len(examples), None, dtype=object)
    clients[dealing.held] = dealing.names
    return pd.DataFrame(
        {
            "seed": seed,
            "example_id": examples,
            "client_id": pd.Series(clients, index=examples.index, dtype="str"),
            "split": dealing.split,
            "period": periods,
        }
    )


def held_out_table(
    examples: pd.Series, split: str, clients: NDArray[np.object_] | None, periods: NDArray[np.int64]
) -> pd.DataFrame:
    """Return rows like those of `client_table` for examples that are never dealt: their seed is null.

    Without clients, client_id is null too. So a reader of one seed sees what that seed dealt and no more.
    """
    return pd.DataFrame(
        {
            "seed": pd.Series(pd.NA, index=examples.index, dtype="Int64"),
            "example_id": examples,
            "client_id": pd.Series(clients, index=examples.index, dtype="str"),
            "split": split,
            "period": periods,
        }
    )


def _deal_clients(
    settings: PartitionSettings, key: str, labels: NDArray[np.int64], values: NDArray[Any], seed: int
) -> NDArray[np.int64]:
    generator = _generator(seed, settings.scheme)
    match settings:
        case Iid():
            return schemes.iid(len(labels), settings.clients, generator, key)
        case LabelShift():
            return schemes.label_shift(labels, settings.clients, settings.alpha, generator, key)
        case LabelDirichlet():
            return schemes.label_dirichlet(labels, settings.clients, settings.alpha, settings.least, generator, key)
        case Shards():
            return schemes.shards(labels, settings.clients, settings.shards, generator, key)
        case FeatureShift():
            clusters = schemes.clusters(values, settings.clusters, generator, key)
            return schemes.label_shift(clusters, settings.clients, settings.alpha, generator, key)
        case QuantityShift():
            return schemes.quantity_shift(len(labels), settings.clients, settings.beta, settings.least, generator, key)
        case PowerLaw():
            return schemes.power_law(len(labels), settings.clients, settings.exponent, settings.least, generator, key)
        case Natural():
            return schemes.natural(values)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    # Python's own hash differs from process to process; a checksum of the name does not.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _numbered(client: NDArray[np.int64]) -> NDArray[np.object_]:
    # Padded, so that ids sort as their numbers do.
    clients = int(client.max()) + 1
    width = len(str(clients - 1))
    return np.array([f"{index:0{width}d}" for index in range(clients)], dtype=object)[client]
