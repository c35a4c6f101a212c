"""Load the models that a fitting verb left."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.common import paths
from stages.common.errors import InputError
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples, Vocabulary
from stages.models.kinds import examples
from stages.models.settings import FOR_OTHER_MODELS, ModelSettings
from stages.models.text_model import TextModel


@dataclass(frozen=True)
class FittedModel:
    """One seed's classifier, in eval mode, with what it needs to read text, and the folder that it is from."""

    classifier: TextClassifier
    settings: ModelSettings
    vocabulary: Vocabulary
    folder: Path

    def examples(self, table: pd.DataFrame) -> Examples:
        """Return a prepared table as examples of this model."""
        return examples(table, self.settings, self.vocabulary)


def load_fitted(study: str, cell: str, seed: int) -> FittedModel:
    """Return one seed's classifier of a cell; InputError if there is none, or another model instead."""
    found = load_any_fitted(study, cell, seed)
    if not isinstance(found, FittedModel):
        where = str(paths.MODELS / study / cell / str(seed))
        raise InputError(where, f"is {found.settings.called}, and this needs a classifier", FOR_OTHER_MODELS)
    return found


def load_named(cell: str, seed: int) -> FittedModel:
    """Return one seed's classifier of `<study>/<cell>`; InputError as above."""
    study, _, name = cell.partition("/")
    return load_fitted(study, name, seed)


def load_any_fitted(study: str, cell: str, seed: int) -> FittedModel | TextModel:
    """Return one seed's model of a cell, in eval mode; InputError if there is none."""
    folder = paths.MODELS / study / cell / str(seed)
    if not folder.is_dir():
        raise InputError(
            str(folder), "no model of this seed", f"add {seed} to params.yaml: {study}.seeds, run `dvc repro`"
        )
    model, settings, labels, tags = files.load(folder)
    if not isinstance(model, TextClassifier):
        return model
    assert isinstance(settings, ModelSettings)
    return FittedModel(model, settings, Vocabulary(labels, tags), folder)
