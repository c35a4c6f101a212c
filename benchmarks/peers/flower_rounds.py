"""Rounds of Flower's simulation: as many nodes as a cohort has clients, on two Ray actors of one core each."""

from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn

from benchmarks.peers.flower_client import app, work
from benchmarks.peers.work import folder, say, wait

server = ServerApp()


class Told(FedAvg):
    """Makes a round when it is told to."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(fraction_evaluate=0.0)
        self._model = model

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Wait for the round."""
        self._model.load_state_dict(arrays.to_torch_state_dict())
        if server_round == 1:
            say("ready")
        if not wait(self._model):
            # A strategy has no other end before its last round.
            raise KeyboardInterrupt
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Say that the round is done."""
        aggregated = super().aggregate_train(server_round, replies)
        say("done")
        return aggregated


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Make the rounds."""
    del context
    found, model, _, _ = work()
    Told(model).start(grid, ArrayRecord(model.state_dict()), num_rounds=len(found.orders))


if __name__ == "__main__":
    # What Ray writes goes when the work's folder goes.
    ray = {"num_cpus": 2, "_temp_dir": str(folder())}
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}, "init_args": ray}
    run_simulation(server, app, num_supernodes=work()[0].orders.shape[1], backend_config=resources)
