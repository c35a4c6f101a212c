"""Settings of one distillation cell: `<study>.distill` in params.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from stages.common import paths
from stages.common.measurements import Role
from stages.fitting.settings import CellSettings


class DistillSettings(CellSettings):
    """`teacher` is `<study>/<cell>` of a fitted cell; its model of the same seed teaches."""

    mechanism: Literal["distillation"] = "distillation"
    teacher: str = Field(pattern="^[^/]+/[^/]+$")
    temperature: float = Field(gt=0)
    teacher_weight: float = Field(ge=0, le=1)
    epochs: int = Field(ge=1)
    role: Role = "student"

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads, its teacher included."""
        return [*super().inputs(), paths.MODELS / self.teacher]
