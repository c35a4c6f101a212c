"""Settings of one attack cell: `<study>.attack` in params.yaml."""

from typing import Literal

from stages.common.settings import Seeds, Settings


class AttackSettings(Settings):
    """A membership attack on the models of the fitted cell of the same name; the partition says who is a member."""

    dataset: str
    partition: str
    seeds: Seeds
    method: Literal["loss_threshold"]
