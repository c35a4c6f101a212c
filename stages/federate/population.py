"""The clients of a federation, and what those of a cohort can do in a round: drop-outs and stragglers."""

from math import ceil
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.federate.selection import Drawn
from stages.federate.settings import FederateSettings, SecureAggregation


class Population(Protocol):
    """The clients of a federation, by number. What one holds is asked for only when it is drawn, however many are."""

    def __len__(self) -> int: ...

    def sizes(self) -> NDArray[np.int64] | None:
        """Return the (K,) examples of each client, or None if all hold as many."""

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of the training examples that a client holds."""


class Dealt:
    """The clients of a partition, in the order of their names.

    Args:
        clients: (n,) name of the client that holds each example.
        kept: Rows of the examples that they still hold, in the order in which they are to stand; by default all.
    """

    def __init__(self, clients: NDArray[np.str_], kept: NDArray[np.int64] | None = None) -> None:
        # Of names, not of rows: the cohort of a round then does not depend on the order of the examples.
        names, owner = np.unique(clients, return_inverse=True)
        kept = np.arange(len(clients)) if kept is None else kept
        self._rows = kept[np.argsort(owner[kept], kind="stable")]
        self._ends = np.searchsorted(owner[self._rows], np.arange(len(names)), side="right")

    def __len__(self) -> int:
        return len(self._ends)

    def sizes(self) -> NDArray[np.int64]:
        """Return the (K,) examples of each client."""
        return np.diff(self._ends, prepend=0)

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of a client, in the order of the examples."""
        start = self._ends[client - 1] if client else 0
        return self._rows[start : self._ends[client]]


class Participant(NamedTuple):
    """A client of a cohort.

    Attributes:
        client: Its number.
        rows: That it holds, one or more.
        steps: Local steps that it makes in time; with none it sends nothing.
        times: How often it was drawn.
        expected: How often it was to be expected to be drawn and to answer; see `Drawn`.
    """

    client: int
    rows: NDArray[np.int64]
    steps: int
    times: int = 1
    expected: float = float("nan")


def participants(
    population: Population, settings: FederateSettings, drawn: Drawn, seed: int, number: int
) -> list[Participant]:
    """Return the cohort of a round: who was drawn, with what each can do.

    Raises:
        SettingError: A client holds no example.
    """
    cohort = []
    answering = 1 - settings.participation.drop_out
    for device, times, expected in zip(*drawn[:3], strict=True):
        client = int(device)
        rows = population.rows(client)
        if not len(rows):
            raise SettingError("partition", f"client {client} holds no example", "give it some, or leave it out")
        whole = settings.local_epochs * ceil(len(rows) / settings.batch_size)
        steps = _in_time(whole, settings, seed, number, client)
        cohort.append(Participant(client, rows, steps, int(times), answering * float(expected)))
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
