"""Train the shadow models of one cell and write what each says of every example of the pool."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import artifacts, measurements
from stages.common.cells import Cell
from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.partitions import splits_of
from stages.common.pool import run_seeds
from stages.common.statistics import proportion
from stages.common.streams import generator, torch_seed
from stages.fitting.cell import Data, about_fitting, fit_safely, whole
from stages.models.classifier import TextClassifier
from stages.models.settings import ModelSettings, read_model
from stages.models.signals import signals
from stages.shadow.dealing import deal
from stages.shadow.settings import ShadowSettings
from stages.train.mechanisms import fit
from stages.train.settings import TrainSettings


def run_cell(cell: Cell[ShadowSettings], training: Cell[TrainSettings], parameters: dict[str, Any]) -> None:
    """Train the shadow models of a cell, as many at a time as there are cores.

    Args:
        cell: Of shadow.
        training: The cell of train whose models are to be attacked.
        parameters: What params.yaml holds.

    Raises:
        InputError: The cell trains on something else than the members of a partition, or another model.
    """
    settings, place = cell.settings, cell.place
    if training.settings.train_on != "member":
        raise InputError(
            training.key("train_on"),
            f"shadow models are of cells that train on the members, not on `{training.settings.train_on}`",
            f"take `{place.cell}` out of {place.study}.shadow.grid",
        )
    refused = {
        "canaries": "shadow models see no canaries",
        "secret": "shadow models see no canaries",
        "associations": "shadow models see texts as they are",
        "status": "there is no status model of a shadow model's seed",
    }
    for setting, problem in refused.items():
        if getattr(training.settings, setting):
            raise InputError(
                training.key(setting),
                problem,
                f"take `{place.cell}` out of {place.study}.shadow.grid",
            )
    with cell.naming():
        settings.check(training.settings)
    model = read_model(parameters, settings.model)
    data = whole(settings.dataset, model)
    # Every seed has as many members.
    split = splits_of(settings.partition, training.settings.seeds[0], data.train.example_ids)
    size = int((split == "member").sum())
    sees = deal(len(data.train), size, settings.shadows, generator(settings.seed, "shadow pool"))
    results = run_seeds(_run_shadow, dict(enumerate(sees)), training, model, data, settings.seed)
    about = replace(
        about_fitting(training),
        verb=place.verb,
        role="shadow",
        command=place.command,
        inputs_sha256=artifacts.sha256(settings.inputs()),
    )
    with artifacts.atomic_folder(place.data(settings.folder)) as folder:
        artifacts.write_json(folder / "about.json", asdict(about))
        artifacts.write_table(folder / "signals.parquet", pd.concat([table for table, _ in results.values()]))
    measurements.write(place.metrics, about, {number: measured for number, (_, measured) in results.items()})


def _run_shadow(
    number: int,
    sees: NDArray[np.bool_],
    training: Cell[TrainSettings],
    model: ModelSettings,
    pool: Data,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    data = replace(pool, train=pool.train[np.flatnonzero(sees)])
    # A seed of its own, unlike any that a reader gives to the models under attack.
    fitted = fit_safely(fit, training, model, data, torch_seed(seed, "shadow model", number))
    assert isinstance(fitted.model, TextClassifier)
    said = signals(fitted.model, pool.train)
    columns = {f"{part}_log_probability": values for part, values in said.log_probability.items()}
    columns |= {f"{part}_logit": values for part, values in said.logit.items()}
    table = pd.DataFrame({"shadow": number, "example_id": pool.train.example_ids, "member": sees} | columns)
    correct = said.correct[~sees]
    return table, {"held_out/accuracy": proportion(int(correct.sum()), len(correct))}
