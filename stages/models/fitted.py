"""Find what a fitting verb left: the folder of a cell and what it says of itself."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stages.common import artifacts, paths
from stages.common.cells import Place
from stages.common.errors import InputError
from stages.common.measurements import About
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples, Vocabulary, examples
from stages.models.settings import ModelSettings


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
    """Return one seed's model of a cell; InputError if the cell was not fitted for the seed."""
    folder = paths.MODELS / study / cell / str(seed)
    if not folder.is_dir():
        raise InputError(
            str(folder), "no model of this seed", f"add {seed} to params.yaml: {study}.seeds, run `dvc repro`"
        )
    classifier, settings, labels, tags = files.load(folder)
    return FittedModel(classifier, settings, Vocabulary(labels, tags))


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
