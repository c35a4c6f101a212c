"""Settings of one shadow cell: `<study>.shadow` in params.yaml."""

from pathlib import Path

from pydantic import Field

from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seed, Settings
from stages.fitting.settings import SPLITS


class ShadowSettings(Settings):
    """Shadow models of the cell of `train` that has the same name.

    Attributes:
        dataset: The study's.
        partition: The study's; its members say how many examples a model sees.
        shadows: How many are trained; each example is in as many as any other, to one.
        seed: Of who sees what, and of their training. The attacked models have seeds of their own.
    """

    dataset: str
    partition: str
    shadows: int = Field(ge=8)
    seed: Seed = 0

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads: dvc.yaml must declare it."""
        return [*(prepared_path(self.dataset, split) for split in SPLITS), partition_path(self.partition)]
