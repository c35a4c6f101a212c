"""Extract from the models of one cell and write what came of it."""

from dataclasses import asdict

import pandas as pd

from stages.common.cells import Cell
from stages.common.errors import SettingError
from stages.extract.measure import measure
from stages.extract.settings import ExtractSettings, GradientSearchSettings
from stages.extract.trial import Trial, trial_of_classifier, trial_of_language_model
from stages.fitting import secrets
from stages.fitting.secrets import Secret
from stages.measuring.cell import Findings, measure_cell
from stages.models.fitted import FittedModel, load_any_fitted
from stages.models.language import LanguageModel


def extract_cell(cell: Cell[ExtractSettings]) -> None:
    """Extract from all seeds of a cell, each a trial; write every trial and the metrics."""
    settings, models = cell.settings, cell.others["target"]
    hidden = {seed: secrets.read(models / str(seed)) for seed in settings.seeds}
    measure_cell(cell, _extract, hidden, cell.place.study, settings, conclude=_conclude, role=settings.role)


def _conclude(trials: dict[int, Trial]) -> Findings:
    table = pd.DataFrame([asdict(trial) for trial in trials.values()])
    return Findings({seed: measure(trial) for seed, trial in trials.items()}, {"trials.parquet": table})


def _extract(seed: int, secret: Secret, study: str, settings: ExtractSettings) -> Trial:
    model = load_any_fitted(study, settings.target, seed)
    if isinstance(model, FittedModel):
        return trial_of_classifier(model, secret, settings.search or GradientSearchSettings(), seed)
    if settings.search is not None:
        raise SettingError("search", "is of a classifier", "remove it: these are language models")
    # In what others read no secret is hidden.
    assert isinstance(model, LanguageModel)
    return trial_of_language_model(model, secret, seed)
