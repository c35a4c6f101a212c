"""Fit one seed by federated learning: the rounds, and what is recorded of each."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.common import command
from stages.common.errors import SettingError
from stages.common.measurements import Measurement, no_guarantee
from stages.common.partitions import held_out, periods
from stages.federate.client import Workload
from stages.federate.continual import live
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.freezing import frozen
from stages.federate.observed import Measured, Periods, activity, by_device
from stages.federate.population import Dealt
from stages.federate.settings import FederateSettings
from stages.federate.stacked import layers
from stages.federate.weights import Layout
from stages.fitting.cell import Data, Fitted
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.evaluate import mean_loss, predict
from stages.models.settings import AnyModelSettings
from stages.models.text_model import TextModel

if TYPE_CHECKING:
    from stages.federate.privacy import PrivateMean


def fit(settings: FederateSettings, model: AnyModelSettings, data: Data, seed: int, processes: int = 1) -> Fitted:
    """Return the model of one seed of a federated cell.

    Its history has, for each round, the mean loss of the clients that reported, the accuracy on the validation split
    after it (of other models than classifiers the mean loss), the bytes that were sent, and, where devices are measured
    or their data change, how many took part.

    Args:
        settings: Of the cell.
        model: What is trained.
        data: Examples and who holds them.
        seed: Of all draws.
        processes: How many may train clients at once (a GPU takes one); the result does not depend on it.
    """
    server = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    with frozen(server, settings.freeze):
        history, privacy, observed = _train(settings, data, seed, server, processes)
        trained = Layout(server).size
    server.eval()
    sent = history.groupby("metric")["value"].sum()
    measured = {metric: Measurement(float(sent[metric])) for metric in ("train/bytes_up", "train/bytes_down")}
    measured["train/parameters"] = Measurement(float(trained))
    measured |= observed
    if privacy is None:
        return Fitted(server, history, no_guarantee("federated averaging alone is no privacy mechanism"), measured)
    stated = ("epsilon", "replace_one_epsilon", "claimed_epsilon", "delta")
    measured |= {f"train/{name}": Measurement(privacy[name]) for name in stated}
    measured["train/noise_multiplier"] = Measurement(privacy["schedule"][0]["noise_multiplier"])
    return Fitted(server, history, privacy, measured)


def _train(
    settings: FederateSettings, data: Data, seed: int, server: TextModel, processes: int
) -> tuple[pd.DataFrame, dict[str, Any] | None, Measured]:
    """Train the model in place.

    Returns:
        Rows of step, metric, value; what is guaranteed of clients, if anything; what else was measured.
    """
    inputs, valid_inputs = server.inputs(data.train.text), server.inputs(data.valid.text)
    workload = Workload(server, inputs, server.objective(data.train), settings, trained_at_once(server))
    layout, rows = Layout(server), list[tuple[int, str, float]]()
    course = _Course(settings, data, seed)
    with _engine(workload, settings, processes if server.device.type == "cpu" else 1) as engine:
        population = Dealt(np.asarray(data.clients, dtype=str))
        private = _private(settings, len(population), seed)
        federation = Federation(engine, workload, population, seed, private)
        for number in range(1, settings.rounds + 1):
            course.begin(federation, number)
            made = federation.round(number)
            layout.write(server, federation.weights)
            if made.loss is not None:
                rows += [(number, "train/loss", made.loss)]
            rows += [(number, *_validation(server, data, valid_inputs))]
            rows += [(number, "train/bytes_up", made.bytes_up), (number, "train/bytes_down", made.bytes_down)]
            if settings.devices is not None or settings.continual is not None:
                rows += [(number, "train/clients", made.clients)]
            if private is not None:
                rows += [(number, "train/clipping_norm", private.clipping_norm)]
            if made.clipped is not None:
                rows += [(number, "train/clipped_values", made.clipped)]
            course.end(server, number)
    history = pd.DataFrame(rows, columns=["step", "metric", "value"])
    statement = None if private is None else private.statement()
    return history, statement, course.measured(server, population, federation.drawn)


class _Course:
    """The periods of a federation, and what is measured of them and of devices."""

    def __init__(self, settings: FederateSettings, data: Data, seed: int) -> None:
        self._settings, self._data, self._seed = settings, data, seed
        self._clients = np.asarray(data.clients, dtype=str)
        observed = settings.continual is not None or settings.devices is not None
        self._held = held_out(settings.partition, data.test.example_ids) if observed else None
        self._rounds = settings.rounds
        self._periods: Periods | None = None
        if settings.continual is not None:
            self._of = periods(settings.partition, seed, data.train.example_ids)
            count = int(self._of.max()) + 1
            self._rounds, rest = divmod(settings.rounds, count)
            if rest or not self._rounds:
                uneven = f"{settings.rounds} are no multiple of the {count} periods of the partition"
                raise SettingError("rounds", uneven, f"give {count * max(1, self._rounds)}, or another multiple")
            assert self._held is not None
            self._periods = Periods(data, self._held, count, seed)

    def begin(self, federation: Federation, number: int) -> None:
        """Give devices the data of a period that begins with this round."""
        continual = self._settings.continual
        if continual is None or (number - 1) % self._rounds:
            return
        kept = live(continual, self._clients, self._of, (number - 1) // self._rounds)
        federation.begin(Dealt(self._clients, kept), continual.resets_server)

    def end(self, server: TextModel, number: int) -> None:
        """Measure the model if a period ends with this round."""
        if self._periods is not None and number % self._rounds == 0:
            self._periods.end(server)

    def measured(self, server: TextModel, population: Dealt, drawn: NDArray[np.int64]) -> Measured:
        """Return what is known at the end."""
        found: Measured = {}
        if self._periods is not None:
            found |= self._periods.measured(server)
        if (devices := self._settings.devices) is not None:
            found |= activity(drawn, population.sizes(), devices.heavy)
            if self._held is not None:
                counts = dict(zip(*np.unique(self._clients, return_counts=True), strict=True))
                found |= by_device(server, self._data, self._held, counts, devices.heavy, self._seed)
        return found


def _private(settings: FederateSettings, clients: int, seed: int) -> "PrivateMean | None":
    if settings.privacy is None:
        return None
    # The accountant takes seconds to import; federations without a guarantee do without it.
    from stages.federate.privacy import private_mean

    if settings.privacy.delta >= 1 / clients and seed == settings.seeds[0]:
        problem = f"privacy.delta: {settings.privacy.delta:g} is no less than one in the {clients} clients"
        command.warn(f"{problem}; give one well below 1/{clients} = {1 / clients:.3g}")
    return private_mean(settings, clients, seed)


def trained_at_once(server: nn.Module) -> bool:
    """Return whether clients can be trained at once: all that is trained is linear, and no module draws dropout."""
    # Of its own each client would have to draw it, and an encoder may have some that no setting of the model names.
    return layers(server) is not None and not any(map(_draws, server.modules()))


def _draws(module: nn.Module) -> bool:
    if isinstance(module, nn.Dropout):
        return module.p > 0
    # Attention of transformers draws by a function, with a probability that it keeps as a number.
    probability = getattr(module, "attention_dropout", 0.0)
    return isinstance(probability, float) and probability > 0


def _engine(workload: Workload, settings: FederateSettings, processes: int) -> Engine:
    if settings.backend == "processes":
        return Engine(workload, settings.clients_per_round, processes)
    # Ray is asked for by those who have it.
    from stages.federate.cluster import RayEngine

    return RayEngine(workload, settings.clients_per_round)


def _validation(model: TextModel, data: Data, inputs: tuple[Tensor, ...]) -> tuple[str, float]:
    """Return what a model is judged by after a round, and its value."""
    if not isinstance(model, TextClassifier):
        return "valid/loss", mean_loss(model, data.valid, model.objective(data.valid), inputs)
    predicted = predict(model, data.valid, inputs=inputs).labels
    return "valid/accuracy", float((predicted == data.valid.labels.numpy()).mean())
