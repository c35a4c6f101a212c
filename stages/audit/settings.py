"""Settings of one audit cell: `<study>.audit` in params.yaml."""

from pathlib import Path

from pydantic import Field

from stages.common.paths import prepared_path
from stages.common.settings import Seeds, Settings


class AuditSettings(Settings):
    """An audit of the models of the cell of `train` that has the same name, trained with `canaries`.

    Attributes:
        dataset: The study's.
        seeds: Of the audited models.
        guesses: How many canaries are guessed, half of them in and half out: those that the model is surest of.
    """

    dataset: str
    seeds: Seeds
    guesses: int = Field(ge=2, multiple_of=2)

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides its models: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, "train")]
