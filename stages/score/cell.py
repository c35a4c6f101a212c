"""Score the models of one cell and write what came of it."""

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.common.measurements import Measurement
from stages.measuring.seeds import measure_seeds
from stages.models.fitted import about_measuring, load_fitted
from stages.score import predictions
from stages.score.predictions import Texts
from stages.score.settings import PredictionSettings, ScoreSettings


def score_cell(cell: Cell[ScoreSettings]) -> None:
    """Score all seeds of a cell; write what is measured example by example, and the metrics."""
    settings, place = cell.settings, cell.place
    texts = predictions.read(cell)
    about = about_measuring(place, settings.dataset, settings.inputs())
    results = measure_seeds(_score, dict.fromkeys(settings.seeds, texts), place, settings.measure)
    with artifacts.atomic_folder(place.scores) as folder:
        table = pd.concat([table for table, _ in results.values()])
        artifacts.write_table(folder / f"{settings.measure.kind}.parquet", table)
    measured = {seed: values for seed, (_, values) in results.items()}
    measurements.write(place.metrics, about, measured)


def _score(
    seed: int, texts: Texts, place: Place, settings: PredictionSettings
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    return predictions.measure(load_fitted(place.study, place.cell, seed), texts, settings, seed)
