"""Settings of one distillation cell: `<study>.distill` in params.yaml."""

from pydantic import Field

from stages.fitting.settings import CellSettings


class DistillSettings(CellSettings):
    """`teacher` is `<study>/<cell>` of a fitted cell; its model of the same seed teaches."""

    teacher: str = Field(pattern="^[^/]+/[^/]+$")
    temperature: float = Field(gt=0)
    teacher_weight: float = Field(ge=0, le=1)
    epochs: int = Field(ge=1)
    role: str = "student"
