"""What a classifier predicts of test texts: rates by group and their gaps, and flips when words are swapped."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.common.errors import SettingError
from stages.common.measurements import Measurement
from stages.common.statistics import proportion
from stages.counterfactual.swaps import read_swaps, swapped_texts
from stages.models.evaluate import predict
from stages.models.examples import read_split
from stages.models.fitted import FittedModel
from stages.score.groups import group_rates
from stages.score.settings import PredictionSettings


@dataclass(frozen=True)
class Texts:
    """The prepared table of test texts, and that of their counterfactuals, with `changed`, row by row."""

    test: pd.DataFrame
    swapped: pd.DataFrame


def read(dataset: str, settings: PredictionSettings) -> Texts:
    """Read what all seeds of a cell are measured on.

    Raises:
        SettingError: Group rates are due, and their label is missing or unknown.
        InputError: The data or the swaps cannot be read.
    """
    test = read_split(dataset, "test")
    known = sorted(test["label"].unique())
    if "group" in test and settings.positive_label not in known:
        raise SettingError(
            "positive_label",
            f"{settings.positive_label!r} is no label of {dataset}, which has groups",
            f"allowed: {', '.join(known)}",
        )
    return Texts(test, swapped_texts(test, read_swaps(settings.swaps)))


def measure(
    model: FittedModel, texts: Texts, settings: PredictionSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return the predictions on every test text and its counterfactual, and what they amount to."""
    labels, test = np.array(model.vocabulary.labels), texts.test
    table = test[[name for name in ("example_id", "group", "label") if name in test]].assign(seed=seed)
    table["predicted"] = labels[predict(model.classifier, model.examples(test)).labels]
    table["swapped"] = texts.swapped["changed"].to_numpy()
    table["predicted_swapped"] = labels[predict(model.classifier, model.examples(texts.swapped)).labels]
    measured: dict[str, Measurement] = {}
    if "group" in table:
        measured |= group_rates(table, str(settings.positive_label), seed)
    changed = table[table["swapped"]]
    if len(changed):
        flips = int((changed["predicted"] != changed["predicted_swapped"]).sum())
        measured["test/counterfactual_flip_rate"] = proportion(flips, len(changed))
    return table, measured
