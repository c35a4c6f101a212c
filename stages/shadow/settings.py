"""Settings of one shadow cell: `<study>.shadow` in params.yaml."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stages.common.errors import SettingError
from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seed, Settings
from stages.fitting.settings import SPLITS, CellSettings


class ShadowSettings(Settings):
    """Shadow models of the cell of `train` that has the same name.

    Attributes:
        dataset: The study's.
        model: That of the cell of `train`: DVC watches what is named here.
        partition: The study's; its members say how many examples a model sees.
        shadows: How many are trained; each example is in as many as any other, to one.
        seed: Of who sees what, and of their training. The attacked models have seeds of their own.
    """

    folder: ClassVar[str] = "shadows"
    dataset: str
    model: str
    partition: str
    shadows: int = Field(ge=8)
    seed: Seed = 0

    def check(self, training: CellSettings) -> None:
        """Raise SettingError if the cell of `train` has another model."""
        if self.model != training.model:
            problem = f"the cell of train has `{training.model}`, not `{self.model}`"
            raise SettingError("model", problem, f"name `{training.model}` here")

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads: dvc.yaml must declare it."""
        return [*(prepared_path(self.dataset, split) for split in SPLITS), partition_path(self.partition)]
