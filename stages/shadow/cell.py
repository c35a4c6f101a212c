"""Train the shadow models of one cell and write what each says of every example of the pool."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import artifacts, measurements
from stages.common.cells import Cell
from stages.common.errors import InputError
from stages.common.measurements import About, Measurement, proportion
from stages.common.pool import run_seeds
from stages.common.settings import block, parse
from stages.common.streams import generator, torch_seed
from stages.fitting.cell import Data, fit_safely
from stages.models import files
from stages.models.examples import examples, read_split, splits_of, vocabulary
from stages.models.settings import ModelSettings
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
        InputError: The cell trains on something else than the members of a partition.
    """
    settings, place = cell.settings, cell.place
    if training.settings.train_on != "member":
        raise InputError(
            training.key("train_on"),
            f"shadow models are of cells that train on the members, not on `{training.settings.train_on}`",
            f"take `{place.cell}` out of {place.study}.shadow.grid",
        )
    if training.settings.canaries:
        raise InputError(
            training.key("canaries"),
            "shadow models see no canaries",
            f"take `{place.cell}` out of {place.study}.shadow.grid",
        )
    key = f"models.{training.settings.model}"
    model = parse(ModelSettings, block(parameters, key), key)
    data = _pool(settings, model)
    # Every seed has as many members.
    split = splits_of(settings.partition, training.settings.seeds[0], data.train.example_ids)
    size = int((split == "member").sum())
    sees = deal(len(data.train), size, settings.shadows, generator(settings.seed, "shadow pool"))
    results = run_seeds(_run_shadow, dict(enumerate(sees)), training, model, data, settings.seed)
    about = _about(cell, training)
    with artifacts.atomic_folder(place.shadows) as folder:
        artifacts.write_json(folder / "about.json", asdict(about))
        artifacts.write_table(folder / "signals.parquet", pd.concat([table for table, _ in results.values()]))
    measurements.write(place.metrics, about, {number: measured for number, (_, measured) in results.items()})


def _pool(settings: ShadowSettings, model: ModelSettings) -> Data:
    train, valid, test = (read_split(settings.dataset, split) for split in ("train", "valid", "test"))
    known = vocabulary(train)
    return Data(known, examples(train, model, known), examples(valid, model, known), examples(test, model, known))


def _run_shadow(
    number: int,
    sees: NDArray[np.bool_],
    training: Cell[TrainSettings],
    model: ModelSettings,
    pool: Data,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    data = Data(pool.vocabulary, pool.train[np.flatnonzero(sees)], pool.valid, pool.test)
    # A seed of its own, unlike any that a reader gives to the models under attack.
    fitted = fit_safely(fit, training, model, data, torch_seed(seed, "shadow model", number))
    said = signals(fitted.model, pool.train)
    columns = {f"{part}_log_probability": values for part, values in said.log_probability.items()}
    columns |= {f"{part}_logit": values for part, values in said.logit.items()}
    table = pd.DataFrame({"shadow": number, "example_id": pool.train.example_ids, "member": sees} | columns)
    correct = said.correct[~sees]
    return table, {"held_out/accuracy": proportion(int(correct.sum()), len(correct))}


def _about(cell: Cell[ShadowSettings], training: Cell[TrainSettings]) -> About:
    settings, place = cell.settings, cell.place
    return About(
        study=place.study,
        cell=place.cell,
        verb=place.verb,
        role="shadow",
        command=place.command,
        inputs_sha256=artifacts.sha256(settings.inputs()),
        dataset=settings.dataset,
        model=training.settings.model,
        partition=settings.partition,
        mechanism=training.settings.mechanism,
        device=files.device().type,
    )
