"""Who may take part in a round, and who does: the clients, the cohort, drop-outs and stragglers."""

from math import ceil
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator, identity
from stages.federate.settings import FederateSettings, SecureAggregation


class Population(Protocol):
    """The clients of a federation, by number. What one holds is asked for only when it is drawn, however many are."""

    def __len__(self) -> int: ...

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of the training examples that a client holds."""


class Dealt:
    """The clients of a partition, in the order of their names.

    Args:
        clients: (n,) name of the client that holds each example.
    """

    def __init__(self, clients: NDArray[np.str_]) -> None:
        # Of names, not of rows: the cohort of a round then does not depend on the order of the examples.
        names, owner = np.unique(clients, return_inverse=True)
        self._rows = np.argsort(owner, kind="stable")
        self._ends = np.searchsorted(owner[self._rows], np.arange(len(names)), side="right")

    def __len__(self) -> int:
        return len(self._ends)

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of a client, in the order of the examples."""
        start = self._ends[client - 1] if client else 0
        return self._rows[start : self._ends[client]]


class Participant(NamedTuple):
    """A client of a cohort: its number, its rows, and the local steps it makes in time; with none it sends nothing."""

    client: int
    rows: NDArray[np.int64]
    steps: int


def select(clients: int, per_round: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """Return the sorted clients of a round, drawn uniformly without replacement from (seed, round) alone.

    Raises:
        SettingError: There are fewer clients than that.
    """
    check_cohort(clients, per_round)
    cohort = generator(seed, "cohort", round_number)
    return np.sort(cohort.choice(clients, size=per_round, replace=False))


def select_independently(
    clients: int, per_round: int, seed: int, round_number: int, cell: tuple[int, ...] = ()
) -> NDArray[np.int64]:
    """Return the sorted clients of a round, each of which joined with the same probability: a Poisson sample.

    Args:
        clients: Of the population.
        per_round: Expected.
        seed: See stages/common/streams.py, as of the next two.
        round_number: From 1.
        cell: Keeps the sample from those of other cells with this seed.

    Raises:
        SettingError: There are fewer clients than are expected.
    """
    check_cohort(clients, per_round)
    joined = generator(seed, "poisson cohort", round_number, *cell).random(clients) < per_round / clients
    return np.flatnonzero(joined)


def select_in_turn(clients: int, per_round: int, seed: int, round_number: int) -> NDArray[np.int64]:
    """Return the sorted clients of a round, of which each takes part once in a pass.

    A pass has its own random order, which depends on no data; clients that fill no whole cohort at its end sit it out.

    Raises:
        SettingError: There are fewer clients than a cohort has.
    """
    check_cohort(clients, per_round)
    passed, place = divmod(round_number - 1, rounds_of_a_pass(clients, per_round))
    order = generator(seed, "turns", passed).permutation(clients)
    return np.sort(order[place * per_round : (place + 1) * per_round])


def rounds_of_a_pass(clients: int, per_round: int) -> int:
    """Return how many rounds it takes until every client could take part once."""
    return clients // per_round


def check_cohort(clients: int, per_round: int) -> None:
    """Raise SettingError if a cohort is larger than the population."""
    if per_round > clients:
        more = f"{per_round} is more than the {clients} clients of the partition"
        raise SettingError("clients_per_round", more, "give a smaller cohort, or a partition with more clients")


def participants(population: Population, settings: FederateSettings, seed: int, number: int) -> list[Participant]:
    """Return the cohort of a round.

    Raises:
        SettingError: It is larger than the population, or a client of it holds no example.
    """
    cohort = []
    size, per_round = len(population), settings.clients_per_round
    match settings.mechanism:
        case "dp_fedavg":
            drawn = select_independently(size, per_round, seed, number, identity(settings))
        case "dp_ftrl":
            drawn = select_in_turn(size, per_round, seed, number)
        case _:
            drawn = select(size, per_round, seed, number)
    for client in map(int, drawn):
        rows = population.rows(client)
        if not len(rows):
            raise SettingError("partition", f"client {client} holds no example", "give it some, or leave it out")
        whole = settings.local_epochs * ceil(len(rows) / settings.batch_size)
        cohort.append(Participant(client, rows, _in_time(whole, settings, seed, number, client)))
    return cohort


def answers(settings: SecureAggregation, seed: int, number: int, client: int) -> bool:
    """Return whether a client that sent its masked update in a round is still there when the masks are removed."""
    return not settings.drop_out or generator(seed, "late drop-out", number, client).random() >= settings.drop_out


def _in_time(steps: int, settings: FederateSettings, seed: int, number: int, client: int) -> int:
    who = settings.participation
    if who.drop_out and generator(seed, "drop-out", number, client).random() < who.drop_out:
        return 0
    if who.deadline is None:
        return steps
    slowness = generator(seed, "straggler", number, client)
    speed = slowness.random() if slowness.random() < who.stragglers else 1.0
    return min(steps, int(speed * who.deadline))
