"""Settings of one attack cell: `<study>.attack` in params.yaml."""

from pathlib import Path
from typing import Literal

from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seeds, Settings


class AttackSettings(Settings):
    """A membership attack on the models of the fitted cell of the same name; the partition says who is a member."""

    dataset: str
    partition: str
    seeds: Seeds
    method: Literal["loss_threshold"]

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides its models: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, "train"), partition_path(self.partition)]
