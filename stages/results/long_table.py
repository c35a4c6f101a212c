"""The long table: one row per study, cell, verb, metric and seed."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.common import artifacts
from stages.common.errors import InputError
from stages.common.measurements import About
from stages.results.metrics import METRICS
from stages.results.sources import Source
from stages.results.verbs import FITTING, VERBS

# Types are fixed, so that a column without a single value keeps its type from run to run.
COLUMNS = {
    "profile": "string",
    "study": "string",
    "verb": "string",
    "cell": "string",
    "dataset": "string",
    "model": "string",
    "partition": "string",
    "mechanism": "string",
    "epsilon": "float64",
    "split": "string",
    "group": "string",
    "role": "string",
    "seed": "int64",
    "metric": "string",
    "value": "float64",
    "unit": "string",
    "best": "string",
    "n": "Int64",
    "ci_low": "float64",
    "ci_high": "float64",
    "command": "string",
    "inputs_sha256": "string",
}
_ORDER = {name: place for place, name in enumerate(METRICS)}
_REMEDY = "run the stage that writes it again: `dvc repro`"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Entry(_Strict):
    value: float
    n: int | None = None
    ci_low: float | None = None
    ci_high: float | None = None


class _MetricsFile(BaseModel):
    about: About
    metrics: dict[str, dict[str, _Entry]]


def long_table(
    profile: str, sources: Iterable[Source], read: Callable[[Path], Any] = artifacts.read_json
) -> pd.DataFrame:
    """Read the metrics file of every source into one table.

    Args:
        profile: Name of the profile.
        sources: The cells.
        read: Returns what a JSON file holds; another than that of the working tree reads another commit.

    Returns:
        A row per source, metric and seed, in reading order, with the columns of COLUMNS. `epsilon` is
        what the cell's training guarantees for that seed, or of an inversion the noise of its updates;
        it is missing where nothing is guaranteed.

    Raises:
        InputError: A file is absent or is not what `stages.common.measurements.write` writes.
    """
    files = {source: _read(source.metrics, read) for source in sources}
    rows = []
    for source, file in files.items():
        guaranteed = _epsilons(source, files)
        # As the study sees it: a partition's own study is that of all partitions.
        common = {**vars(file.about), **vars(source), "profile": profile}
        for key in sorted(file.metrics, key=_place):
            described = common | _described(key)
            for seed, entry in sorted(file.metrics[key].items(), key=lambda item: int(item[0])):
                epsilon = guaranteed[seed].value if seed in guaranteed else None
                rows.append({**described, **vars(entry), "seed": int(seed), "epsilon": epsilon})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _read(path: Path, read: Callable[[Path], Any]) -> _MetricsFile:
    try:
        file = _MetricsFile.model_validate(read(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = " > ".join(map(str, first["loc"])) or "top level"
        raise InputError(f"{path}: {where}", first["msg"].lower(), _REMEDY) from None
    for key, by_seed in file.metrics.items():
        parts = key.split("/", 2)  # a group may hold any character
        if len(parts) not in (2, 3) or parts[1] not in METRICS:
            raise InputError(f"{path}: metrics > {key}", "is not split/metric[/group] of a known metric", _REMEDY)
        for seed in by_seed:
            if not (seed.isascii() and seed.isdigit()):
                raise InputError(f"{path}: metrics > {key} > {seed}", "a seed is a whole number", _REMEDY)
    return file


def _epsilons(source: Source, files: dict[Source, _MetricsFile]) -> dict[str, _Entry]:
    """Return seed -> epsilon of the training behind a cell, or of its updates; empty where nothing is guaranteed."""
    if VERBS[source.verb].guarantees:
        return files[source].metrics.get("gradient/epsilon", {})
    # A partition may share its name with a cell.
    for verb in FITTING if source.verb != "partition" else ():
        training = files.get(Source(source.study, verb, source.target or source.cell))
        if training:
            return training.metrics.get("train/epsilon", {})
    return {}


def _described(key: str) -> dict[str, Any]:
    split, name, *group = key.split("/", 2)
    best = METRICS[name].best
    return {
        "split": split,
        "group": group[0] if group else None,
        "metric": name,
        "unit": METRICS[name].unit,
        "best": f"{best:g}" if isinstance(best, float) else best,
    }


def _place(key: str) -> tuple[int, str]:
    return _ORDER[key.split("/")[1]], key
