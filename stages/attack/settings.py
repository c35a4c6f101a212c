"""Settings of one attack cell: `<study>.attack` in params.yaml."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.common.paths import partition_path, prepared_path
from stages.common.references import Refers
from stages.measuring.settings import MeasureSettings

Method = Literal[
    "loss", "lira", "lira_own_variance", "lira_offline", "lira_offline_own_variance", "rmia", "rmia_offline"
]


def _distinct(methods: list[Method]) -> list[Method]:
    if len(set(methods)) < len(methods):
        raise ValueError("each method is listed once")
    return methods


class AttackSettings(MeasureSettings):
    """Membership attacks on the models of the fitted cell of the same name; the partition says who is a member.

    Attributes:
        partition: Whose members and non-members are told apart.
        methods: `loss` needs nothing else; the others compare with shadow models.
        shadows: The cell of `<study>.shadow` whose models are compared with: best that of the same name.
    """

    folder: ClassVar[str] = "attacks"
    partition: str
    methods: Annotated[list[Method], Field(min_length=1), AfterValidator(_distinct)]
    shadows: Annotated[str | None, Refers("shadow", "shadows")] = None

    @model_validator(mode="after")
    def _shadows_where_they_are_needed(self) -> Self:
        needing = [method for method in self.methods if method != "loss"]
        if needing and self.shadows is None:
            raise ValueError(f"method {needing[0]} needs `shadows`, a cell of the study's shadow grid")
        return self

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models and shadows: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, "train"), partition_path(self.partition)]
