"""Find what a fitting verb left: the folder of a cell and what it says of itself."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common import artifacts, paths
from stages.common.cells import Place
from stages.common.errors import InputError
from stages.common.measurements import About
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples, Vocabulary
from stages.models.kinds import examples
from stages.models.settings import FOR_OTHER_MODELS, ModelSettings
from stages.models.text_model import TextModel


@dataclass(frozen=True)
class FittedModel:
    """One seed's classifier, in eval mode, with what it needs to read text."""

    classifier: TextClassifier
    settings: ModelSettings
    vocabulary: Vocabulary

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
    return FittedModel(model, settings, Vocabulary(labels, tags))


def stated_guarantee(place: Place, seed: int) -> dict[str, Any]:
    """Return what is stated of the privacy of one seed's model; of a control, what would be if it were none."""
    content: dict[str, Any] = artifacts.read_json(place.models / str(seed) / "privacy.json")
    stated: dict[str, Any] = content.get("stated", content)
    return stated


def about_measuring(place: Place, dataset: str, read: Iterable[Path]) -> About:
    """Return what is said of a measurement of a fitted cell.

    Args:
        place: Of the verb that measures, and the cell whose models it measures.
        dataset: What they are measured on.
        read: Files read besides the models.
    """
    fitted = About(**artifacts.read_json(place.models / "about.json"))
    digest = artifacts.sha256([place.models, *read])
    return replace(fitted, verb=place.verb, command=place.command, dataset=dataset, inputs_sha256=digest)
