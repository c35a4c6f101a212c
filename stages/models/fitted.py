"""Find what a fitting verb left: the folder of a cell and what it says of itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common import artifacts, paths
from stages.common.errors import InputError
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


def about_measuring(study: str, cell: str, verb: str, read: Iterable[Path]) -> dict[str, Any]:
    """Return the `about` of a metrics file that measures a fitted cell, with the hash of the files read."""
    about: dict[str, Any] = artifacts.read_json(paths.MODELS / study / cell / "about.json")
    about["verb"] = verb
    about["command"] = f"python -m stages.{verb} --study {study} --cell {cell}"
    about["inputs_sha256"] = artifacts.sha256([paths.MODELS / study / cell, *read])
    return about
