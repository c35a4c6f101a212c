"""Settings that every cell has which measures models."""

from pathlib import Path
from typing import ClassVar, TypeVar

from stages.common.settings import Seeds, Settings


class MeasureSettings(Settings):
    """A measurement of the models of the fitted cell of the same name, or of a `target` that the verb's settings name.

    Attributes:
        folder: Where under data/ a verb writes more than metrics; None if it does not.
        dataset: The study's.
        seeds: Of the measured models.
    """

    folder: ClassVar[str | None] = None
    dataset: str
    seeds: Seeds

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models and other cells: dvc.yaml must declare it."""
        return []


Measuring = TypeVar("Measuring", bound=MeasureSettings)
