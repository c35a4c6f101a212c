"""Settings of one audit cell: `<study>.audit` in params.yaml."""

from pathlib import Path

from pydantic import Field

from stages.common.paths import prepared_path
from stages.measuring.settings import MeasureSettings


class AuditSettings(MeasureSettings):
    """An audit of the models of the cell of `train` that has the same name, trained with `canaries`.

    Attributes:
        guesses: How many canaries are guessed, half of them in and half out: those that the model is surest of.
    """

    guesses: int = Field(ge=2, multiple_of=2)

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, "train")]
