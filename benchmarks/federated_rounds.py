"""What a federated round costs: ours in one and two processes against a plain loop over the clients in this process.

The MLP is 784-200-200-10; 1000 clients of 50 examples, a cohort of 50, batches of 10, one epoch of SGD at 0.1. All
sides get the same data, first weights, cohorts and orders of examples; their weights after ROUNDS rounds must agree
within 1e-4, or there is no time. One torch thread a process; evaluation is left out. Seconds are those of a round. The
last row is the peak memory of a process with a million clients against one with a thousand. No public simulator is
among the peers yet.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import REPEATS, Row, row, run, seconds
from stages.common import pool
from stages.common.streams import torch_seed
from stages.federate.client import Workload
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.population import select
from stages.federate.settings import FederateSettings
from stages.federate.weights import Layout

CLIENTS, EXAMPLES, SEED = 1000, 50, 0
# Of each side: rounds before the first that is timed, after which weights are compared, and rounds timed at once.
ROUNDS, TIMED = 2, 2
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

    def rows(self, client: int) -> NDArray[np.int64]:
        """Return the rows of a client."""
        start = client % CLIENTS * EXAMPLES
        return np.arange(start, start + EXAMPLES)


def workload() -> Workload:
    """Return what all sides train."""
    draws = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(CLIENTS * EXAMPLES, 784, generator=draws)
    labels = torch.randint(10, (len(inputs),), generator=draws)
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    return Workload(model, (inputs,), Loss(labels), SETTINGS, vectorised=True)


class Loop:
    """Federated averaging as it is usually written: a model, an optimiser of torch, a loop over the cohort."""

    def __init__(self, work: Workload) -> None:
        self.work, self.layout, self.population = work, Layout(work.model), Equal()
        self.weights = self.layout.read(work.model)

    def round(self, number: int) -> None:
        """Make a round."""
        model, total, examples = self.work.model, torch.zeros_like(self.weights), 0
        for client in select(CLIENTS, SETTINGS.clients_per_round, SEED, number):
            self.layout.write(model, self.weights)
            optimiser = torch.optim.SGD(model.parameters(), lr=SETTINGS.learning_rate)
            rows = torch.from_numpy(self.population.rows(client))
            draws = torch.Generator().manual_seed(torch_seed(SEED, "client order", number, int(client)))
            for batch in rows[torch.randperm(len(rows), generator=draws)].split(SETTINGS.batch_size):
                optimiser.zero_grad()
                loss: Any = self.work.objective(model(self.work.inputs[0][batch]), batch).mean()
                loss.backward()
                optimiser.step()
            total += len(rows) * self.layout.read(model)
            examples += len(rows)
        self.weights = total / examples


def cases() -> list[Row]:
    """Return a row per number of processes."""
    torch.set_num_threads(1)
    pool.start(2, "stages.federate.engine")
    memory = [(_peak(1_000_000), _peak(CLIENTS)) for _ in range(3)]
    return [
        _compared(1, 0.7),
        _compared(2, 0.35),
        row("a million clients", "a thousand", memory, 1.1, "MiB, peak of a process"),
    ]


def _compared(processes: int, target: float) -> Row:
    work = workload()
    with Engine(work, SETTINGS.clients_per_round, processes) as engine:
        ours, loop = Federation(engine, work, Equal(), SEED), Loop(workload())
        for number in range(1, ROUNDS + 1):
            ours.round(number)
            loop.round(number)
        apart = float((ours.weights - loop.weights).abs().max())
        if not apart < 1e-4:
            raise SystemExit(f"error: after {ROUNDS} rounds the weights are {apart:g} apart: nothing was timed")
        times = [(_seconds(ours.round, number), _seconds(loop.round, number)) for number in range(REPEATS)]
    return row(f"MLP 199k, 50 clients a round: {processes} process(es)", "plain loop", times, target)


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
    # Not ru_maxrss, which a child inherits from its parent.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


if __name__ == "__main__" and sys.argv[1:2] == ["--peak"]:
    _print_peak(int(sys.argv[2]))
elif __name__ == "__main__":
    run("federated_rounds", __doc__ or "", cases)
