"""What a federated round costs: ours against a plain loop over the clients, pfl-research and Flower.

The MLP is 784-200-200-10, the transformer has BERT-tiny's shape and 4.2 million parameters; 1000 clients of 50
examples, a cohort of 50, batches of 10, one epoch of SGD at 0.1. All sides get the same data, first weights, cohorts
and orders of examples; their weights after ROUNDS rounds must agree within 1e-4, or there is no time. One torch thread
a process; evaluation is left out. Seconds are those of a round, each side's in turn. pfl and Flower have two processes,
each peer an environment of its own (benchmarks/peers), which is made the first time. The last row is the peak memory of
a process with a million clients against one with a thousand.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import REPEATS, Row, peak_memory, row, run, seconds
from benchmarks.peers import Peer, PeerError
from benchmarks.peers.work import LABELS, MODELS, WORDS, Work, flat, write
from stages.common import pool
from stages.common.streams import torch_seed
from stages.federate.client import Workload
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.selection import select
from stages.federate.settings import FederateSettings
from stages.federate.weights import Layout

CLIENTS, EXAMPLES, SEED = 1000, 50, 0
# Of each side: rounds before the first that is timed, after which weights are compared, and rounds timed at once.
ROUNDS, TIMED = 2, 2
TOKENS = 16
PEERS = {
    "pfl": [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "benchmarks.peers.pfl_rounds",
    ],
    "flower": ["-m", "benchmarks.peers.flower_rounds"],
}
SETTINGS = FederateSettings.model_validate(
    {
        "dataset": "random",
        "model": "mlp",
        "partition": "equal",
        "train_on": "train",
        "seeds": [SEED],
        "mechanism": "fedavg",
        "rounds": ROUNDS,
        "clients_per_round": 50,
        "local_epochs": 1,
        "batch_size": 10,
        "learning_rate": 0.1,
    }
)


class Loss:
    """Cross-entropy of rows."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __call__(self, scores: Any, rows: Tensor) -> Tensor:
        """Return (n,) losses of (n, 10) scores."""
        return functional.cross_entropy(scores, self.labels[rows], reduction="none")


class Equal:
    """Clients that hold as many examples each; beyond the first thousand they hold those of others."""

    def __init__(self, clients: int = CLIENTS) -> None:
        self._clients = clients

    def __len__(self) -> int:
        return self._clients

    def sizes(self) -> None:
        """All hold as many."""

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of a client."""
        start = client % CLIENTS * EXAMPLES
        return np.arange(start, start + EXAMPLES)


def workload(name: str = "mlp") -> Workload:
    """Return what all sides train, a model of benchmarks/peers/work.py."""
    draws, examples = torch.Generator().manual_seed(SEED), CLIENTS * EXAMPLES
    if name == "mlp":
        inputs = torch.randn(examples, 784, generator=draws)
    else:
        inputs = torch.randint(WORDS, (examples, TOKENS), generator=draws)
    labels = torch.randint(LABELS, (examples,), generator=draws)
    torch.manual_seed(SEED)
    return Workload(MODELS[name](), (inputs,), Loss(labels), SETTINGS, vectorised=name == "mlp")


def cohort(number: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each client of a round, in the order in which it takes them."""
    for client in map(int, select(CLIENTS, SETTINGS.clients_per_round, SEED, number)):
        rows = Equal().rows(client)
        draws = torch.Generator().manual_seed(torch_seed(SEED, "client order", number, client))
        yield rows[torch.randperm(len(rows), generator=draws).numpy()]


class Loop:
    """Federated averaging as it is usually written: a model, an optimiser of torch, a loop over the cohort."""

    def __init__(self, work: Workload) -> None:
        self.work, self.layout = work, Layout(work.model)
        self.vector = self.layout.read(work.model)

    def weights(self) -> NDArray[np.float32]:
        """Return (P,) the weights after the last round."""
        found: NDArray[np.float32] = self.vector.numpy()
        return found

    def round(self, number: int) -> None:
        """Make a round."""
        model, total, examples = self.work.model, torch.zeros_like(self.vector), 0
        for order in cohort(number):
            self.layout.write(model, self.vector)
            optimiser = torch.optim.SGD(model.parameters(), lr=SETTINGS.learning_rate)
            for batch in torch.from_numpy(order).split(SETTINGS.batch_size):
                optimiser.zero_grad()
                loss: Any = self.work.objective(model(self.work.inputs[0][batch]), batch).mean()
                loss.backward()
                optimiser.step()
            total += len(order) * self.layout.read(model)
            examples += len(order)
        self.vector = total / examples


@contextmanager
def peer(name: str, model: str) -> Iterator[Peer]:
    """Have a peer at the same work."""
    work = workload(model)
    assert isinstance(work.objective, Loss)
    # One more than are made: a peer hands out its weights when it is asked for a round.
    rounds = range(1, ROUNDS + REPEATS * TIMED + 2)
    given = Work(
        model=model,
        inputs=work.inputs[0].numpy(),
        labels=work.objective.labels.numpy(),
        weights=flat(work.model),
        orders=np.stack([np.stack([*cohort(number)]) for number in rounds]),
        batch_size=SETTINGS.batch_size,
        learning_rate=SETTINGS.learning_rate,
    )
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), given)
        with Peer(name, PEERS[name], Path(folder)) as started:
            yield started


def cases() -> list[Row]:
    """Return the rows: against the loop, against pfl, against Flower, and of memory."""
    torch.set_num_threads(1)
    pool.start(2, "stages.federate.engine")
    memory = [(_peak(1_000_000), _peak(CLIENTS)) for _ in range(3)]
    rows = [
        _compared("mlp", processes, Loop(workload()), "plain loop", target)
        for processes, target in ((1, 0.7), (2, 0.35))
    ]
    for name, model, target in (("pfl", "mlp", 0.4), ("pfl", "transformer", 1.0), ("flower", "mlp", 0.07)):
        with peer(name, model) as other:
            rows.append(_compared(model, 2, other, name, target))
    return [*rows, row("a million clients", "a thousand", memory, 1.1, "MiB, peak of a process")]


def _compared(model: str, processes: int, other: Loop | Peer, name: str, target: float) -> Row:
    work = workload(model)
    with Engine(work, SETTINGS.clients_per_round, processes) as engine:
        ours = Federation(engine, work, Equal(), SEED)
        for number in range(1, ROUNDS + 1):
            ours.round(number)
            other.round(number)
        _check(ours, other, name, 1e-4)
        times = [(_seconds(ours.round, number), _seconds(other.round, number)) for number in range(REPEATS)]
        # A peer that lost clients on its way would have had less to do. Rounding errors have grown by then.
        _check(ours, other, name, 1e-3)
    case = f"{model} of {len(ours.weights):,}, 50 clients a round: {processes} process{'es' * (processes > 1)}"
    return row(case, name, times, target)


def _check(ours: Federation, other: Loop | Peer, name: str, limit: float) -> None:
    apart = float(np.abs(ours.weights.numpy() - other.weights()).max())
    if not apart < limit:
        raise SystemExit(f"error: {name}'s weights are {apart:g} from ours, so no times are shown")


def _seconds(make: Callable[[int], object], repeat: int) -> float:
    """Return the mean seconds of some rounds."""
    first = ROUNDS + repeat * TIMED + 1

    def rounds() -> None:
        for number in range(first, first + TIMED):
            make(number)

    return seconds(rounds) / TIMED


def _peak(clients: int) -> float:
    """Return the peak memory of a process of its own that makes rounds with so many clients, in MiB."""
    command = [sys.executable, "-m", "benchmarks.federated_rounds", "--peak", str(clients)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(clients: int) -> None:
    torch.set_num_threads(1)
    work = workload()
    with Engine(work, SETTINGS.clients_per_round) as engine:
        federation = Federation(engine, work, Equal(clients), SEED)
        for number in range(1, ROUNDS + 1):
            federation.round(number)
    print(peak_memory())


if __name__ == "__main__" and sys.argv[1:2] == ["--peak"]:
    _print_peak(int(sys.argv[2]))
elif __name__ == "__main__":
    try:
        run("federated_rounds", __doc__ or "", cases)
    except PeerError as error:
        sys.exit(f"error: {error}")
