"""Run one fitting cell: read its data, fit and measure a model per seed, write models, metrics, history."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from stages.common import artifacts, measurements, paths
from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.pool import run_seeds
from stages.common.settings import block, parse, read_parameters
from stages.fitting.settings import CellSettings
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.evaluate import utility
from stages.models.examples import (
    Examples,
    Vocabulary,
    examples,
    partition_path,
    prepared_path,
    read_partition,
    read_split,
    rows_of,
    vocabulary,
)
from stages.models.settings import ModelSettings


@dataclass(frozen=True)
class Data:
    """What one seed of a cell fits and is measured on.

    Attributes:
        vocabulary: Labels and tags of the whole training split.
        train: The examples the model may see.
        valid: The validation split, for all that is looked at while sizes are chosen.
        test: The test split, measured once at the end.
        clients: (len(train),) client of each example, or None where nobody deals them to clients.
    """

    vocabulary: Vocabulary
    train: Examples
    valid: Examples
    test: Examples
    clients: NDArray[np.object_] | None


@dataclass(frozen=True)
class Fitted:
    """One seed's result.

    Attributes:
        model: The fitted classifier.
        history: Rows of step, metric, value.
        privacy: Content of privacy.json.
        measured: What only the fitting verb knows, such as epsilon.
    """

    model: TextClassifier
    history: pd.DataFrame
    privacy: dict[str, Any]
    measured: dict[str, Measurement]


def loss_history(losses: list[float]) -> pd.DataFrame:
    """Return the history table of one training loss per epoch."""
    return pd.DataFrame({"step": np.arange(1, len(losses) + 1), "metric": "train/loss", "value": losses})


def no_guarantee(reason: str) -> dict[str, Any]:
    """Return the privacy.json of a model that nothing protects."""
    return {"epsilon": None, "reason": reason}


Cell = TypeVar("Cell", bound=CellSettings)
Fit = Callable[[Cell, ModelSettings, Data, int], Fitted]


def run_cell(verb: str, study: str, cell: str, settings: Cell, fit: Fit[Cell], needs_clients: bool) -> None:
    """Fit a cell of params.yaml for all its seeds and write what the verb hands on.

    Args:
        verb: train, federate or distill.
        study: Block of params.yaml.
        cell: Point of the verb's grid.
        settings: The cell's merged settings.
        fit: Fits one seed; a function of a module, since every seed runs in a process of its own.
        needs_clients: Whether the examples must be dealt to clients.
    """
    key = f"models.{settings.model}"
    model = parse(ModelSettings, block(read_parameters(), key), key)
    by_seed = _data(settings, model, needs_clients)
    for data in by_seed.values():
        if settings.batch_size > len(data.train):
            raise InputError(
                f"params.yaml: {study}.{verb} ({cell}).batch_size",
                f"{settings.batch_size} is more than the {len(data.train)} examples",
                "give a smaller batch",
            )
    about = _about(verb, study, cell, settings, needs_clients)
    folder = paths.MODELS / study / cell
    with artifacts.atomic_folder(folder) as temporary:
        results = run_seeds(_run_seed, by_seed, fit, settings, model, temporary)
        artifacts.write_json(temporary / "about.json", about)
    measurements.write(
        paths.METRICS / study / cell / f"{verb}.json",
        about,
        {seed: measured for seed, (measured, _) in results.items()},
    )
    history = pd.concat([table.assign(seed=seed) for seed, (_, table) in results.items()])
    artifacts.write_table(paths.CURVES / study / cell / "history.csv", history[["seed", "step", "metric", "value"]])


def _data(settings: CellSettings, model: ModelSettings, needs_clients: bool) -> dict[int, Data]:
    train, valid, test = (read_split(settings.dataset, split) for split in ("train", "valid", "test"))
    known = vocabulary(train)
    pool, watched, tested = (examples(table, model, known) for table in (train, valid, test))
    if settings.train_on == "train" and not needs_clients:
        return dict.fromkeys(settings.seeds, Data(known, pool, watched, tested, None))
    by_seed = {}
    for seed in settings.seeds:
        held = read_partition(str(settings.partition), seed, settings.train_on)
        rows = rows_of(pool.example_ids, list(held["example_id"]))
        by_seed[seed] = Data(
            known, pool[rows], watched, tested, held["client_id"].to_numpy() if needs_clients else None
        )
    return by_seed


def _run_seed(
    seed: int, data: Data, fit: Fit[Cell], settings: Cell, model: ModelSettings, folder: Path
) -> tuple[dict[str, Measurement], pd.DataFrame]:
    # use_deterministic_algorithms does the same, and imports torch._inductor, which takes two seconds.
    torch.set_deterministic_debug_mode("error")
    fitted = fit(settings, model, data, seed)
    if not np.isfinite(fitted.history["value"]).all():
        raise InputError(
            "params.yaml: learning_rate",
            f"with {settings.learning_rate:g} the loss of seed {seed} stopped being a number",
            "give a smaller one",
        )
    own = folder / str(seed)
    files.save(own, model, data.vocabulary.labels, data.vocabulary.tags, fitted.model)
    artifacts.write_table(own / "history.parquet", fitted.history)
    artifacts.write_json(own / "privacy.json", fitted.privacy)
    trained = sum(tensor.numel() for tensor in files.trained_state(fitted.model).values())
    measured = {
        **utility(fitted.model, data.train, data.vocabulary, "train", seed),
        **utility(fitted.model, data.test, data.vocabulary, "test", seed),
        **fitted.measured,
        "train/parameters": Measurement(float(trained)),
    }
    return measured, fitted.history


def _about(verb: str, study: str, cell: str, settings: CellSettings, needs_clients: bool) -> dict[str, Any]:
    read = [prepared_path(settings.dataset, split) for split in ("train", "valid", "test")]
    if settings.partition and (needs_clients or settings.train_on != "train"):
        read.append(partition_path(settings.partition))
    if teacher := getattr(settings, "teacher", None):
        read.append(paths.MODELS / teacher)
    return {
        "study": study,
        "cell": cell,
        "verb": verb,
        "role": settings.role,
        "dataset": settings.dataset,
        "model": settings.model,
        "partition": settings.partition or "",
        "mechanism": getattr(settings, "mechanism", verb),
        "device": files.device().type,
        "command": f"python -m stages.{verb} --study {study} --cell {cell}",
        "inputs_sha256": artifacts.sha256(read),
    }
