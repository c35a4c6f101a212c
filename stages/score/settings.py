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


class CeatSettings(Settings):
    """How CEAT draws contexts and combines effect sizes (stages/score/association.py).

    The defaults are the paper's as far as they are known; `with_replacement`, `one` and `associations` are those of the
    released code.

    Attributes:
        samples: How many samples of one context for each word; the paper's N is 10,000.
        sampling: Whether a word with at least so many contexts may have one of them twice.
        sides: Of the p-value; one-sided it is that of an effect above 0.
        variance: What stands for that of a sample's effect size: the variance of its targets' associations, which is
            none of an effect size, or the sampling variance of the effect size.
    """

    samples: int = Field(default=10_000, ge=2)
    sampling: Literal["without_replacement", "with_replacement"] = "without_replacement"
    sides: Literal["two", "one"] = "two"
    variance: Literal["associations", "effect_size"] = "associations"


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
