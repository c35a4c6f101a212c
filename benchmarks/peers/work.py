"""What all sides of a benchmark of rounds train; it wants nothing but torch and numpy."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

LABELS, WORDS = 10, 30_000
# The variable that names the folder of the work to a peer.
FOLDER = "ASSAY_PEER_WORK"


class Transformer(nn.Module):
    """Of BERT-tiny's shape, two layers of 128 units over 30,000 tokens: 4.2 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 128)
        layer = nn.TransformerEncoderLayer(128, 2, 512, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.labels = nn.Linear(128, LABELS)

    def forward(self, ids: Tensor) -> Tensor:
        """Score (n, tokens) ids."""
        scores: Tensor = self.labels(self.layers(self.words(ids)).mean(1))
        return scores


def mlp() -> nn.Module:
    """Return 784-200-200-10: 199,210 parameters."""
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, LABELS))


MODELS = {"mlp": mlp, "transformer": Transformer}


@dataclass(frozen=True)
class Work:
    """Rounds of federated averaging by plain SGD.

    Attributes:
        model: A name of MODELS.
        inputs: (n, ...) examples.
        labels: (n,) theirs.
        weights: (P,) the first weights, in the order of the model's parameters.
        orders: (rounds, clients, examples) rows of each client, in the order in which it takes them.
        batch_size: Of a client.
        learning_rate: Of a client.
    """

    model: str
    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    orders: NDArray[np.int64]
    batch_size: int
    learning_rate: float

    def built(self) -> nn.Module:
        """Return the model with its first weights."""
        model = MODELS[self.model]()
        vector_to_parameters(torch.from_numpy(self.weights.copy()), model.parameters())
        return model


def write(where: Path, work: Work) -> None:
    """Write work.npz into a folder, which `read` reads."""
    np.savez(where / "work.npz", **vars(work))


def folder() -> Path:
    """Return where a peer's work is."""
    return Path(os.environ[FOLDER])


def read() -> Work:
    """Return a peer's work."""
    with np.load(folder() / "work.npz") as found:
        content = {name: found[name] for name in found.files}
    plain = {"model": str(content["model"]), "batch_size": int(content["batch_size"])}
    return Work(**{**content, **plain, "learning_rate": float(content["learning_rate"])})


def flat(model: nn.Module) -> NDArray[np.float32]:
    """Return (P,) the parameters of a model, in their order."""
    found: NDArray[np.float32] = parameters_to_vector(model.parameters()).detach().numpy()
    return found


def wait(model: nn.Module) -> bool:
    """Wait until the next round is asked for, handing out the model's weights; return whether there is one."""
    for line in sys.stdin:
        if line.strip() == "go":
            return True
        np.save(folder() / "weights.npy", flat(model))
        say("done")
    return False


def say(word: str) -> None:
    """Tell the benchmark."""
    print(word, flush=True)
