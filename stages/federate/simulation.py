"""Fit one seed by federated learning: the rounds, and what is recorded of each."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from stages.common import command
from stages.common.measurements import Measurement, no_guarantee
from stages.federate.client import Workload
from stages.federate.engine import Engine
from stages.federate.federation import Federation
from stages.federate.freezing import frozen
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
    after it (of other models than classifiers the mean loss), and the bytes that were sent.

    Args:
        settings: Of the cell.
        model: What is trained.
        data: Examples and who holds them.
        seed: Of all draws.
        processes: How many may train clients at once (a GPU takes one); the result does not depend on it.
    """
    server = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    with frozen(server, settings.freeze):
        history, privacy = _train(settings, data, seed, server, processes)
        trained = Layout(server).size
    server.eval()
    sent = history.groupby("metric")["value"].sum()
    measured = {metric: Measurement(float(sent[metric])) for metric in ("train/bytes_up", "train/bytes_down")}
    measured["train/parameters"] = Measurement(float(trained))
    if privacy is None:
        return Fitted(server, history, no_guarantee("federated averaging alone is no privacy mechanism"), measured)
    stated = ("epsilon", "replace_one_epsilon", "claimed_epsilon", "delta")
    measured |= {f"train/{name}": Measurement(privacy[name]) for name in stated}
    measured["train/noise_multiplier"] = Measurement(privacy["schedule"][0]["noise_multiplier"])
    return Fitted(server, history, privacy, measured)


def _train(
    settings: FederateSettings, data: Data, seed: int, server: TextModel, processes: int
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Train the model in place; return rows of step, metric, value, and what is guaranteed of clients, if anything."""
    inputs, valid_inputs = server.inputs(data.train.text), server.inputs(data.valid.text)
    workload = Workload(server, inputs, server.objective(data.train), settings, trained_at_once(server))
    layout, rows = Layout(server), list[tuple[int, str, float]]()
    with _engine(workload, settings, processes if server.device.type == "cpu" else 1) as engine:
        population = Dealt(np.asarray(data.clients, dtype=str))
        private = _private(settings, len(population), seed)
        federation = Federation(engine, workload, population, seed, private)
        for number in range(1, settings.rounds + 1):
            made = federation.round(number)
            layout.write(server, federation.weights)
            if made.loss is not None:
                rows += [(number, "train/loss", made.loss)]
            rows += [(number, *_validation(server, data, valid_inputs))]
            rows += [(number, "train/bytes_up", made.bytes_up), (number, "train/bytes_down", made.bytes_down)]
            if private is not None:
                rows += [(number, "train/clipping_norm", private.clipping_norm)]
            if made.clipped is not None:
                rows += [(number, "train/clipped_values", made.clipped)]
    return pd.DataFrame(rows, columns=["step", "metric", "value"]), None if private is None else private.statement()


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
