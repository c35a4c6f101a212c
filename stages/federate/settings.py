"""Settings of one federated cell: `<study>.federate` in params.yaml."""

from typing import Literal

from pydantic import Field

from stages.fitting.settings import CellSettings


class FederateSettings(CellSettings):
    """Federated training; `batch_size` and `learning_rate` are those of a client's local SGD.

    Only members are dealt to clients: non-members and the reserve cannot be fitted by federation.
    """

    mechanism: Literal["fedavg"]
    partition: str
    train_on: Literal["train", "member"]
    rounds: int = Field(ge=1)
    clients_per_round: int = Field(ge=1)
    local_epochs: int = Field(ge=1)

    @property
    def dealt(self) -> bool:
        """Each example belongs to a client."""
        return True
