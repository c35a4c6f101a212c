"""Extract from the models of one cell and write what came of it."""

from dataclasses import asdict

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.common.errors import SettingError
from stages.common.pool import run_seeds
from stages.extract.measure import measure
from stages.extract.settings import ExtractSettings
from stages.extract.trial import Trial, trial_of_classifier, trial_of_language_model
from stages.fitting import secrets
from stages.fitting.secrets import Secret
from stages.models.fitted import about_measuring, load_any_fitted
from stages.models.language import LanguageModel


def extract_cell(cell: Cell[ExtractSettings]) -> None:
    """Extract from all seeds of a cell, each a trial; write every trial and the metrics."""
    settings, place = cell.settings, cell.place
    about = about_measuring(place, settings.dataset, settings.inputs())
    hidden = {seed: secrets.read(place.models / str(seed)) for seed in settings.seeds}
    with cell.naming():
        trials = run_seeds(_extract, hidden, place, settings)
    with artifacts.atomic_folder(place.extractions) as folder:
        artifacts.write_table(folder / "trials.parquet", pd.DataFrame([asdict(trial) for trial in trials.values()]))
    measurements.write(place.metrics, about, {seed: measure(trial) for seed, trial in trials.items()})


def _extract(seed: int, secret: Secret, place: Place, settings: ExtractSettings) -> Trial:
    model = load_any_fitted(place.study, place.cell, seed)
    if not isinstance(model, LanguageModel):
        return trial_of_classifier(model, secret, settings, seed)
    if searching := sorted(settings.model_fields_set - {"dataset", "seeds"}):
        raise SettingError(searching[0], "is of the search in a classifier", "remove it: these are language models")
    return trial_of_language_model(model, secret, seed)
