"""Extract from the models of one cell and write what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.common.errors import InputError, SettingError
from stages.common.measurements import Measurement
from stages.common.pool import run_seeds
from stages.common.settings import PARAMETERS
from stages.extract.gradient.run import Reconstruction, reconstruct
from stages.extract.gradient.run import measure as measure_texts
from stages.extract.measure import measure
from stages.extract.settings import CanarySettings, ExtractSettings, GradientSettings
from stages.extract.trial import Trial, run_completion, run_trial
from stages.fitting import secrets
from stages.fitting.secrets import Secret
from stages.models.examples import read_split
from stages.models.fitted import about_measuring, load_any_fitted, load_fitted
from stages.models.language import LanguageModel

Result = TypeVar("Result")


def extract_cell(cell: Cell[ExtractSettings]) -> None:
    """Extract from all seeds of a cell, each a trial; write every trial, or text, and the metrics."""
    settings, place = cell.settings, cell.place
    about = about_measuring(place, settings.dataset, settings.inputs())
    rows: list[Trial | Reconstruction] = []
    measured: dict[int, dict[str, Measurement]] = {}
    if isinstance(settings, GradientSettings):
        private = read_split(settings.dataset, settings.split)
        for seed, texts in _run(cell, _reconstruct, dict.fromkeys(settings.seeds, private)).items():
            rows += texts
            measured[seed] = measure_texts(texts)
    else:
        hidden = {seed: secrets.read(place.models / str(seed)) for seed in settings.seeds}
        for seed, trial in _run(cell, _extract, hidden).items():
            rows.append(trial)
            measured[seed] = measure(trial)
    name = "reconstructions" if settings.attack == "gradient" else "trials"
    with artifacts.atomic_folder(place.extractions) as folder:
        artifacts.write_table(folder / f"{name}.parquet", pd.DataFrame([asdict(row) for row in rows]))
    measurements.write(place.metrics, about, measured)


def _run(cell: Cell[ExtractSettings], work: Callable[..., Result], items: Mapping[int, Any]) -> dict[int, Result]:
    try:
        return run_seeds(work, items, cell.place, cell.settings)
    except SettingError as error:
        # What is wrong with a cell's model is wrong with the cell.
        grid = f"{PARAMETERS}: {cell.place.study}.{cell.place.verb}.grid"
        where = grid if error.setting == "grid" else cell.key(error.setting)
        raise InputError(where, error.problem, error.remedy) from None


def _extract(seed: int, secret: Secret, place: Place, settings: CanarySettings) -> Trial:
    model = load_any_fitted(place.study, place.cell, seed)
    if not isinstance(model, LanguageModel):
        return run_trial(model, secret, settings, seed)
    if searching := sorted(settings.model_fields_set - {"attack", "dataset", "seeds"}):
        raise SettingError(searching[0], "is of the search in a classifier", "remove it: these are language models")
    return run_completion(model, secret, seed)


def _reconstruct(seed: int, private: pd.DataFrame, place: Place, settings: GradientSettings) -> list[Reconstruction]:
    fitted = load_fitted(place.study, place.cell, seed)
    return reconstruct(fitted, fitted.examples(private), settings, seed)
