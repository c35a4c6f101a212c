"""Settings of one scoring cell: `<study>.score` in params.yaml."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.common.paths import prepared_path
from stages.common.settings import Settings
from stages.counterfactual.settings import SwapSettings
from stages.measuring.settings import MeasureSettings


class PredictionSettings(Settings):
    """Group rates and counterfactual flips, by what a classifier predicts (stages/score/predictions.py).

    Attributes:
        kind: Names it.
        positive_label: Whose rates are compared between groups; data without a `group` column need none.
        swaps: The words that are swapped in counterfactual texts.
    """

    kind: Literal["predictions"] = "predictions"
    positive_label: str | None = None
    swaps: SwapSettings

    def inputs(self, dataset: str) -> list[Path]:
        """Return what it reads besides the models: test texts and local lists of words."""
        return [prepared_path(dataset, "test"), *self.swaps.inputs()]


class ScoreSettings(MeasureSettings):
    """Fairness of the models of the fitted cell of the same name.

    Attributes:
        dataset: The study's.
        seeds: Of the models.
        measure: What is measured, one kind in a cell; each has a module of its name, and writes a table of its name.
    """

    folder: ClassVar[str] = "scores"
    measure: Annotated[PredictionSettings, Field(discriminator="kind")]

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models: dvc.yaml must declare it."""
        return self.measure.inputs(self.dataset)
