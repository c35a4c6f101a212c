"""A federation: rounds in which a cohort is drawn, trained and combined into the server's next weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.streams import torch_seed
from stages.federate.client import Task, Workload
from stages.federate.engine import Engine
from stages.federate.population import Participant, Population, participants
from stages.federate.quantisation import norm_before_rounding
from stages.federate.scaffold import Controls
from stages.federate.secure_sum import SecureSum
from stages.federate.selectors import selector
from stages.federate.server import ServerOptimiser, mean_update, weight
from stages.federate.weights import Layout
from stages.models.encoders import CHUNK

if TYPE_CHECKING:
    from stages.federate.privacy import PrivateMean


class Round(NamedTuple):
    """What is known of a round.

    Attributes:
        loss: Of the clients that reported, by their examples; None if none did, and then the weights stay.
        bytes_up: Sent to the server.
        bytes_down: Sent to the cohort.
        clients: In the cohort, those among them that send nothing.
        clipped: Share of the values of updates that were beyond the range of secure aggregation; None without it.
    """

    loss: float | None
    bytes_up: int
    bytes_down: int
    clients: int
    clipped: float | None = None


class Federation:
    """The server: its weights, and what it keeps from round to round.

    Args:
        engine: Trains the clients.
        workload: What they train; the model's parameters are the first weights.
        population: The clients.
        seed: Of all draws.
        private: Bounds and noises what clients send, if the settings ask for it.

    Attributes:
        weights: (P,) after the last round.
        drawn: (K,) how often each client was drawn.
    """

    def __init__(
        self,
        engine: Engine,
        workload: Workload,
        population: Population,
        seed: int,
        private: "PrivateMean | None" = None,
    ) -> None:
        self._engine, self._workload, self._settings = engine, workload, workload.settings
        self._population, self._seed = population, seed
        self.weights = Layout(workload.model).read(workload.model).cpu()
        self._optimiser = ServerOptimiser(self._settings.server, len(self.weights))
        scaffold = self._settings.mechanism == "scaffold"
        self._controls = Controls(len(self.weights), len(population)) if scaffold else None
        self.private = private
        self._selector = selector(self._settings, population, seed, self._losses)
        self._examples = self._count(population)
        self.drawn = np.zeros(len(population), dtype=np.int64)

    def begin(self, population: Population, reset: bool = False) -> None:
        """Go on with the same clients when they hold other examples; `reset` makes the server's optimiser anew."""
        self._population, self._examples = population, self._count(population)
        self._selector.begin(population)
        if reset:
            self._optimiser = ServerOptimiser(self._settings.server, len(self.weights))

    def round(self, number: int) -> Round:
        """Make a round, counted from 1.

        Raises:
            SettingError: The cohort cannot be drawn, see `participants`, or its masks cannot be removed. Then the
                weights stay.
        """
        drawn = self._selector.draw(number)
        self.drawn[drawn.devices] += drawn.times
        cohort = participants(self._population, self._settings, drawn, self._seed, number)
        # A client that sends nothing took the weights all the same; of SCAFFOLD a control variate goes either way too.
        each = self.weights.nbytes * (2 if self._controls else 1)
        reporting = [client for client in cohort if client.steps]
        self._selector.learn(number, [client.client for client in reporting])
        secure = None
        if self._settings.secure_aggregation is not None and cohort:
            secure = SecureSum(self._settings, cohort, self._seed, number)
        loss, clipped = self._train(reporting, number, secure) if reporting else (None, None)
        if self.private is not None and not reporting:
            # That nobody came must not show.
            self._take(self.private.release(torch.zeros(len(self.weights), dtype=torch.float64), [], number))
        up, down = each * len(reporting), each * (len(cohort) + drawn.passed_over)
        if secure is not None:
            up, down = up + secure.bytes_up, down + secure.bytes_down
        return Round(loss, up, down, len(cohort), clipped)

    def _train(self, reporting: list[Participant], number: int, secure: SecureSum | None) -> tuple[float, float | None]:
        """Take a round's update; return the clients' loss and `Round.clipped`."""
        clients = [each.client for each in reporting]
        tasks = [self._task(slot, each, number) for slot, each in enumerate(reporting)]
        if self._controls:
            self._controls.correct(clients, self._engine.shared.corrections[: len(clients)])
        reported = self._engine.run(self.weights, tasks if secure is None else secure.masked(tasks))
        total, start, clipped = reported.total, self.weights, None
        if secure is not None:
            # Of updates, from which no weights are left to subtract.
            total, start = secure.unmasked(reported, tasks), torch.zeros_like(start)
            clipped = sum(each.clipped for each in reported.outcomes) / (len(tasks) * len(start))
        if self._controls:
            self._controls.renew(clients, self._engine.shared.controls[: len(clients)])
        if self.private is not None:
            norms = [each.norm for each in reported.outcomes if each.norm is not None]
            self._take(self.private.release(total, norms, number))
        else:
            self._take(mean_update(self._settings, start, total, tasks, self._examples))
        losses = np.array([each.loss for each in reported.outcomes])
        # Where updates are clipped one that is no number adds nothing, and must not end the run either.
        counted = np.isfinite(losses) if self.private is not None else np.ones(len(losses), dtype=bool)
        sizes = np.array([len(task.rows) for task in tasks])
        return float(np.average(losses[counted], weights=sizes[counted])) if counted.any() else 0.0, clipped

    def _take(self, update: Tensor) -> None:
        self.weights = self._optimiser.step(self.weights, update)

    def _task(self, slot: int, client: Participant, number: int) -> Task:
        counts = weight(self._settings, client)
        order, dropout = (torch_seed(self._seed, use, number, client.client) for use in ("client order", "dropout"))
        bound, secure = None if self.private is None else self.private.clipping_norm, self._settings.secure_aggregation
        if bound is not None and secure is not None:
            bound = norm_before_rounding(bound, secure, len(self.weights))
        return Task(slot, client.rows, client.steps, counts, order, dropout, bound)

    def _losses(self, clients: Sequence[int]) -> list[NDArray[np.float64]]:
        """Return the (n,) losses of each client's examples under the server's weights."""
        workload = self._workload
        Layout(workload.model).write(workload.model, self.weights)
        workload.model.eval()
        return [self._lost(workload, torch.from_numpy(self._population.rows(client))) for client in clients]

    @staticmethod
    def _lost(workload: Workload, examples: Tensor) -> NDArray[np.float64]:
        found = []
        with torch.no_grad():
            for rows in examples.split(CHUNK):
                losses = workload.objective(workload.model(*(tensor[rows] for tensor in workload.inputs)), rows)
                found.append(losses.double().cpu())
        together: NDArray[np.float64] = torch.cat(found).numpy()
        return together

    @staticmethod
    def _count(population: Population) -> int:
        """Return how many examples all clients hold."""
        sizes = population.sizes()
        return len(population) * len(population.rows(0)) if sizes is None else int(sizes.sum())
