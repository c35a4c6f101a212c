"""Extract from the models of one cell and write what came of it."""

from dataclasses import asdict, replace

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell
from stages.common.errors import SettingError
from stages.extract.measure import measure
from stages.extract.settings import ExtractSettings, GradientSearchSettings
from stages.extract.trial import Trial, trial_of_classifier, trial_of_language_model
from stages.fitting import secrets
from stages.fitting.secrets import Secret
from stages.measuring.seeds import measure_seeds
from stages.models.fitted import FittedModel, about_measuring, load_any_fitted
from stages.models.language import LanguageModel


def extract_cell(cell: Cell[ExtractSettings]) -> None:
    """Extract from all seeds of a cell, each a trial; write every trial and the metrics."""
    settings, place = cell.settings, cell.place
    attacked = replace(place, cell=settings.target)
    about = about_measuring(attacked, settings.dataset, settings.inputs())
    about = replace(about, cell=place.cell, role=settings.role or about.role, command=place.command)
    hidden = {seed: secrets.read(attacked.models / str(seed)) for seed in settings.seeds}
    with cell.naming():
        trials = measure_seeds(_extract, hidden, place.study, settings)
    with artifacts.atomic_folder(place.extractions) as folder:
        artifacts.write_table(folder / "trials.parquet", pd.DataFrame([asdict(trial) for trial in trials.values()]))
    measurements.write(place.metrics, about, {seed: measure(trial) for seed, trial in trials.items()})


def _extract(seed: int, secret: Secret, study: str, settings: ExtractSettings) -> Trial:
    model = load_any_fitted(study, settings.target, seed)
    if isinstance(model, FittedModel):
        return trial_of_classifier(model, secret, settings.search or GradientSearchSettings(), seed)
    if settings.search is not None:
        raise SettingError("search", "is of a classifier", "remove it: these are language models")
    # In what others read no secret is hidden.
    assert isinstance(model, LanguageModel)
    return trial_of_language_model(model, secret, seed)
