"""Settings of one distillation cell: `<study>.distill` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.common.measurements import Role
from stages.common.references import Refers
from stages.fitting.settings import CellSettings


class DistillSettings(CellSettings):
    """`teacher` is `<study>/<cell>` of a fitted cell; its model of the same seed teaches."""

    mechanism: Literal["distillation"] = "distillation"
    teacher: Annotated[str, Refers(None, named="base")] = Field(pattern="^[^/]+/[^/]+$")
    temperature: float = Field(gt=0)
    teacher_weight: float = Field(ge=0, le=1)
    epochs: int = Field(ge=1)
    role: Role = "student"
