"""Settings of one scoring cell: `<study>.score` in params.yaml."""

from pathlib import Path

from stages.common.paths import prepared_path
from stages.common.settings import Seeds, Settings
from stages.counterfactual.settings import SwapSettings


class ScoreSettings(Settings):
    """Fairness of the models of the fitted cell of the same name.

    Group rates are those of `positive_label`; data without a `group` column need none.
    """

    dataset: str
    seeds: Seeds
    positive_label: str | None = None
    swaps: SwapSettings

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides its models: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, "test"), *self.swaps.inputs()]
