"""Score the models of one cell and write what came of it."""

from functools import partial
from types import ModuleType
from typing import Any

import pandas as pd

from stages.common.cells import Cell, Place
from stages.common.measurements import Measurement
from stages.measuring.cell import Findings, measure_cell
from stages.models.fitted import load_any_fitted
from stages.score import crows_pairs, predictions, stereoset
from stages.score.settings import ScoreSettings

# Each has `read`, which gives what all seeds are measured on, and `measure`, a table and the metrics of one model.
MODULES: dict[str, ModuleType] = {"predictions": predictions, "stereoset": stereoset, "crows_pairs": crows_pairs}


def score_cell(cell: Cell[ScoreSettings]) -> None:
    """Score all seeds of a cell; write what is measured example by example, and the metrics."""
    settings, place = cell.settings, cell.place
    items = dict.fromkeys(settings.seeds, MODULES[settings.measure.kind].read(cell))
    conclude = partial(_conclude, settings.measure.kind)
    measure_cell(cell, _score, items, place, settings, conclude=conclude)


def _conclude(kind: str, results: dict[int, tuple[pd.DataFrame, dict[str, Measurement]]]) -> Findings:
    table = pd.concat([table for table, _ in results.values()])
    return Findings({seed: values for seed, (_, values) in results.items()}, {f"{kind}.parquet": table})


def _score(seed: int, items: Any, place: Place, settings: ScoreSettings) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    model = load_any_fitted(place.study, place.cell, seed)
    settings.check(place.cell, model.settings)
    measured: tuple[pd.DataFrame, dict[str, Measurement]]
    measured = MODULES[settings.measure.kind].measure(model, items, settings.measure, seed)
    return measured
