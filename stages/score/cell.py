"""Score the models of one cell and write what came of it."""

from functools import partial

import pandas as pd

from stages.common.cells import Cell, Place
from stages.common.measurements import Measurement
from stages.measuring.cell import Findings, measure_cell
from stages.models.fitted import load_fitted
from stages.score import predictions
from stages.score.predictions import Texts
from stages.score.settings import PredictionSettings, ScoreSettings


def score_cell(cell: Cell[ScoreSettings]) -> None:
    """Score all seeds of a cell; write what is measured example by example, and the metrics."""
    settings, place = cell.settings, cell.place
    items = dict.fromkeys(settings.seeds, predictions.read(cell))
    conclude = partial(_conclude, settings.measure.kind)
    measure_cell(cell, _score, items, place, settings.measure, conclude=conclude)


def _conclude(kind: str, results: dict[int, tuple[pd.DataFrame, dict[str, Measurement]]]) -> Findings:
    table = pd.concat([table for table, _ in results.values()])
    return Findings({seed: values for seed, (_, values) in results.items()}, {f"{kind}.parquet": table})


def _score(
    seed: int, texts: Texts, place: Place, settings: PredictionSettings
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    return predictions.measure(load_fitted(place.study, place.cell, seed), texts, settings, seed)
