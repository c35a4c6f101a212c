"""Score the models of one cell and write what came of it."""

import numpy as np
import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.statistics import proportion
from stages.counterfactual.swaps import read_swaps, swapped_texts
from stages.measuring.seeds import measure_seeds
from stages.models.evaluate import predict
from stages.models.examples import read_split
from stages.models.fitted import FittedModel, about_measuring, load_fitted
from stages.score.groups import group_rates
from stages.score.settings import ScoreSettings


def score(
    model: FittedModel, test: pd.DataFrame, settings: ScoreSettings, swaps: dict[str, str], seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return the predictions on every test text and its counterfactual, and what they amount to."""
    labels = np.array(model.vocabulary.labels)
    originals = model.examples(test)
    table = test[[name for name in ("example_id", "group", "label") if name in test]].assign(seed=seed)
    table["predicted"] = labels[predict(model.classifier, originals).labels]
    swapped = swapped_texts(test, swaps)
    table["swapped"] = swapped["changed"].to_numpy()
    table["predicted_swapped"] = labels[predict(model.classifier, model.examples(swapped)).labels]
    measured: dict[str, Measurement] = {}
    if "group" in table:
        measured |= group_rates(table, str(settings.positive_label), seed)
    changed = table[table["swapped"]]
    if len(changed):
        flips = int((changed["predicted"] != changed["predicted_swapped"]).sum())
        measured["test/counterfactual_flip_rate"] = proportion(flips, len(changed))
    return table, measured


def check_positive_label(cell: Cell[ScoreSettings], test: pd.DataFrame) -> None:
    """Raise InputError if group rates are due and their label is missing or unknown."""
    known, settings = sorted(test["label"].unique()), cell.settings
    if "group" in test and settings.positive_label not in known:
        raise InputError(
            cell.key("positive_label"),
            f"{settings.positive_label!r} is no label of {settings.dataset}, which has groups",
            f"allowed: {', '.join(known)}",
        )


def score_cell(cell: Cell[ScoreSettings]) -> None:
    """Score all seeds of a cell; write every prediction and the metrics."""
    settings, place = cell.settings, cell.place
    test, swaps = read_split(settings.dataset, "test"), read_swaps(settings.swaps)
    check_positive_label(cell, test)
    about = about_measuring(place, settings.dataset, settings.inputs())
    results = measure_seeds(_score, dict.fromkeys(settings.seeds, test), place, settings, swaps)
    with artifacts.atomic_folder(place.scores) as folder:
        artifacts.write_table(folder / "predictions.parquet", pd.concat([table for table, _ in results.values()]))
    measured = {seed: values for seed, (_, values) in results.items()}
    measurements.write(place.metrics, about, measured)


def _score(
    seed: int, test: pd.DataFrame, place: Place, settings: ScoreSettings, swaps: dict[str, str]
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    return score(load_fitted(place.study, place.cell, seed), test, settings, swaps, seed)
