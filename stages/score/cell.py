"""Score the models of one cell and write what came of it."""

from types import ModuleType
from typing import Any

import pandas as pd

from stages.common.cells import Cell, Place
from stages.common.errors import InputError, SettingError
from stages.common.measurements import Measurement
from stages.measuring.cell import Findings, measure_cell
from stages.models.fitted import load_any_fitted
from stages.score import (
    bbq,
    bold,
    ceat,
    crows_pairs,
    group_auc,
    log_probability_bias,
    predictions,
    seat,
    sensitivity,
    stereoset,
    token_map,
    weat,
)
from stages.score.settings import ScoreSettings

# Each has `read`, which gives what all seeds are measured on, and `measure`, a table and the metrics of one model.
MODULES: dict[str, ModuleType] = {
    "predictions": predictions,
    "sensitivity": sensitivity,
    "group_auc": group_auc,
    "stereoset": stereoset,
    "crows_pairs": crows_pairs,
    "bold": bold,
    "bbq": bbq,
    "log_probability_bias": log_probability_bias,
    "weat": weat,
    "seat": seat,
    "ceat": ceat,
}
# Kind -> a table and the metrics of one model.
Scores = dict[str, tuple[pd.DataFrame, dict[str, Measurement]]]


def score_cell(cell: Cell[ScoreSettings]) -> None:
    """Score all seeds of a cell; write what is measured example by example, and the metrics."""
    items = {kind: _read(cell, kind) for kind in cell.settings.measures.given()}
    measure_cell(cell, _score, dict.fromkeys(cell.settings.seeds, items), cell.place, cell.settings, conclude=_conclude)


def _read(cell: Cell[ScoreSettings], kind: str) -> Any:
    try:
        return MODULES[kind].read(cell.settings.data()[kind], cell.settings.measures.given()[kind])
    except SettingError as error:
        raise InputError(cell.key(f"measures.{kind}.{error.setting}"), error.problem, error.remedy) from None


def _score(seed: int, items: dict[str, Any], place: Place, settings: ScoreSettings) -> Scores:
    model = load_any_fitted(place.study, place.cell, seed)
    settings.check(place.cell, model.settings)
    given = settings.measures.given()
    return {kind: MODULES[kind].measure(model, items[kind], given[kind], seed) for kind in given}


def _conclude(results: dict[int, Scores]) -> Findings:
    kinds = next(iter(results.values()))
    files: dict[str, Any] = {
        f"{kind}.parquet": pd.concat([scores[kind][0] for scores in results.values()]) for kind in kinds
    }
    if "sensitivity" in kinds:
        seed = next(iter(results))
        files["token_map.html"] = token_map.page(kinds["sensitivity"][0], f"Prediction sensitivity, seed {seed}")
    return Findings({seed: _united(scores) for seed, scores in results.items()}, files)


def _united(scores: Scores) -> dict[str, Measurement]:
    metrics: dict[str, Measurement] = {}
    for kind, (_, measured) in scores.items():
        assert metrics.keys().isdisjoint(measured), f"{kind} has a metric of another kind"
        metrics |= measured
    return metrics
