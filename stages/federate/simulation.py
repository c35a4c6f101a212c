"""Fit one seed by federated averaging: the rounds, and what is recorded of each."""

from collections.abc import Callable
from typing import Literal, assert_never

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.streams import torch_seed
from stages.federate.client import update
from stages.federate.server import State, average, select
from stages.federate.settings import FederateSettings
from stages.fitting.cell import Data, Fitted, no_guarantee
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.evaluate import predict
from stages.models.settings import ModelSettings


def fit(settings: FederateSettings, model: ModelSettings, data: Data, seed: int) -> Fitted:
    """Return the model of one seed of a federated cell, with its accuracy on the validation split after each round."""
    combine = aggregation(settings.mechanism)
    torch.manual_seed(torch_seed(seed, "dropout"))
    server = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    clients = _rows_by_client(data)
    inputs, objective = server.inputs(data.train.text), server.objective(data.train)
    valid_inputs = server.inputs(data.valid.text)
    rows = []
    for number in range(1, settings.rounds + 1):
        start = {name: tensor.clone() for name, tensor in files.trained_state(server).items()}
        states, sizes, losses = [], [], []
        server.train()
        for client in select(len(clients), settings.clients_per_round, seed, number):
            server.load_state_dict(start, strict=False)
            own = torch.from_numpy(clients[client]).to(server.device)
            order = torch.Generator().manual_seed(torch_seed(seed, "client order", number, int(client)))
            losses.append(update(server, inputs, own, objective, settings, order))
            states.append({name: tensor.clone() for name, tensor in files.trained_state(server).items()})
            sizes.append(len(own))
        server.load_state_dict(combine(states, sizes), strict=False)
        rows += [(number, "train/loss", float(np.average(losses, weights=sizes)))]
        rows += [(number, "valid/accuracy", _accuracy(server, data, valid_inputs))]
    server.eval()
    return Fitted(
        server,
        pd.DataFrame(rows, columns=["step", "metric", "value"]),
        no_guarantee("federated averaging alone is no privacy mechanism"),
        {},
    )


def aggregation(mechanism: Literal["fedavg"]) -> Callable[[list[State], list[int]], State]:
    """Return how a mechanism makes the next server state of the clients' states and their numbers of examples."""
    match mechanism:
        case "fedavg":
            return average
    assert_never(mechanism)


def _rows_by_client(data: Data) -> list[NDArray[np.int64]]:
    # In the order of client names, so that the cohort of a round does not depend on the order of rows.
    names, owner = np.unique(np.asarray(data.clients, dtype=str), return_inverse=True)
    return [np.flatnonzero(owner == client) for client in range(len(names))]


def _accuracy(model: TextClassifier, data: Data, inputs: tuple[Tensor, ...]) -> float:
    return float((predict(model, data.valid, inputs=inputs).labels == data.valid.labels.numpy()).mean())
