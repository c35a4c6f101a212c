"""Settings of one scoring cell: `<study>.score` in params.yaml."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stages.common.paths import prepared_path
from stages.common.settings import Settings
from stages.measuring.settings import MeasureSettings


class SwapSettings(Settings):
    """Files of tab-separated word pairs, inside an installed package or, without `package`, local."""

    package: str | None = None
    paths: list[str] = Field(min_length=1)


class ScoreSettings(MeasureSettings):
    """Fairness of the models of the fitted cell of the same name.

    Group rates are those of `positive_label`; data without a `group` column need none.
    """

    folder: ClassVar[str] = "scores"
    positive_label: str | None = None
    swaps: SwapSettings

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models: dvc.yaml must declare it."""
        local = [] if self.swaps.package else [Path(path) for path in self.swaps.paths]
        return [prepared_path(self.dataset, "test"), *local]
