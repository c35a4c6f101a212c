"""Rounds of pfl-research, as its own benchmarks make them: torchrun, one process a core, the users spread over them."""

from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.selector import get_default_framework_module
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.peers.work import read, say, wait


class Scored(nn.Module):
    """What pfl asks of a model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return cross_entropy(self.net(inputs), labels)

    def metrics(self, inputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return the loss, for the first round, which is evaluated whatever one asks for."""
        return {"loss": Weighted(float(self.loss(inputs, labels)) * len(labels), len(labels))}


class Told(TrainingProcessCallback):
    """Makes a round when it is told to."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def on_train_begin(self, *, model: Any) -> Metrics:
        """Wait for the first round."""
        del model
        self._wait("ready")
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Wait for the next one."""
        del aggregate_metrics, model, central_iteration
        return not self._wait("done"), Metrics()

    def _wait(self, word: str) -> bool:
        # The first process is told, and the others by it.
        distributed = get_default_framework_module().distributed
        more = torch.ones(1)
        if distributed.global_rank == 0:
            say(word)
            more.fill_(wait(self._net))
        if distributed.world_size > 1:
            torch.distributed.broadcast(more, 0)
        return bool(more)


def main() -> None:
    """Make the rounds."""
    torch.set_num_threads(1)
    work = read()
    net = work.built()
    module = Scored(net)
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    inputs, labels = torch.from_numpy(work.inputs), torch.from_numpy(work.labels)
    rounds, cohort, _ = work.orders.shape
    rows = torch.from_numpy(work.orders).flatten(0, 1)
    turns = iter(range(len(rows)))
    users = FederatedDataset(lambda user: Dataset((inputs[rows[user]], labels[rows[user]])), lambda: next(turns))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds, evaluation_frequency=10**9, train_cohort_size=cohort, val_cohort_size=None
        ),
        SimulatedBackend(users, users),
        model,
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=work.learning_rate, local_batch_size=work.batch_size
        ),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[Told(net)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
