"""Deal the training examples of a data set to clients, once per seed, and measure who holds what."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.common import artifacts, command, measurements, paths
from stages.common.cells import Place
from stages.common.errors import InputError
from stages.common.measurements import About
from stages.common.settings import PARAMETERS, read_parameters
from stages.partition import schemes
from stages.partition.dealing import client_table, deal, held_out_table
from stages.partition.settings import FeatureShift, Natural, PartitionSettings, read
from stages.partition.statistics import holdings, label_counts, measure


def main() -> str:
    """Deal the partition named on the command line."""
    name = command.arguments("partition", str(__doc__), "partition").partition
    run_partition(name)
    return f"partition-{name}"


def run_partition(name: str) -> None:
    """Read a partition's settings and data, deal it for all its seeds, and write it.

    Writes data/partitions/<name>/clients.parquet, reports/metrics/partitions/<name>/partition.json and
    reports/curves/partitions/<name>/holdings.csv (the first seed's largest clients), once every seed is dealt. The
    first also has valid and test, where an example's values say which client or period it is of; the reports are of
    the training examples alone.
    """
    settings, key = read(read_parameters(), name), f"partitions.{name}"
    source = paths.prepared_path(settings.dataset, "train")
    examples = read_examples(source, settings, key)
    labels, label_names = pd.factorize(examples["label"], sort=True)
    values: NDArray[Any] = labels
    if isinstance(settings, Natural):
        values = examples[settings.column].to_numpy(dtype=object)
    elif isinstance(settings, FeatureShift):
        values = _vectors(settings, source, key)
    periods = np.zeros(len(examples), dtype=np.int64)
    if settings.periods is not None:
        times = examples[settings.periods.column].to_numpy(dtype=object)
        periods = schemes.periods(times, settings.periods.count, key)

    dealings = {seed: deal(settings, key, labels, values, seed) for seed in settings.seeds}
    counts = {
        seed: label_counts(dealing.client, labels[dealing.held], len(label_names)) for seed, dealing in dealings.items()
    }
    ids = examples["example_id"]
    tables = [client_table(ids, dealing, periods, seed) for seed, dealing in dealings.items()]
    if isinstance(settings, Natural) or settings.periods is not None:
        tables += [_held_out(split, settings, key, examples, periods) for split in ("valid", "test")]
    with artifacts.atomic_folder(paths.PARTITIONS / name) as folder:
        artifacts.write_table(folder / "clients.parquet", pd.concat(tables))
    measured = {seed: measure(counts[seed], dealing.split) for seed, dealing in dealings.items()}
    place = Place("partitions", "partition", name)
    measurements.write(place.metrics, _about(name, settings, source), measured)
    first = settings.seeds[0]
    shown = holdings(counts[first], label_names.to_numpy(), first)
    artifacts.write_table(place.curve("holdings"), shown)


def read_examples(source: Path, settings: PartitionSettings, key: str) -> pd.DataFrame:
    """Read example_id, label and the columns that clients and periods go by, which must be filled in every row."""
    examples = artifacts.read_table(source, ["example_id", "label"])
    columns = {f"{key}.column": settings.column} if isinstance(settings, Natural) else {}
    if settings.periods is not None:
        columns[f"{key}.periods.column"] = settings.periods.column
    for setting, column in columns.items():
        where, texts = f"{PARAMETERS}: {setting}", _text_columns(source)
        if column not in texts:
            raise InputError(where, f"{source} has no text column `{column}`", f"it has: {', '.join(texts)}")
        examples[column] = artifacts.read_table(source, [column])[column]
        if empty := int(np.sum(examples[column].isna() | (examples[column] == ""))):
            problem = f"`{column}` is empty in {empty} rows of {source}"
            raise InputError(where, problem, "name a column that is filled in all")
    return examples


def _held_out(
    split: str, settings: PartitionSettings, key: str, train: pd.DataFrame, periods: NDArray[np.int64]
) -> pd.DataFrame:
    """Return the rows of a split that no seed deals, given the training examples and the period of each."""
    examples = read_examples(paths.prepared_path(settings.dataset, split), settings, key)
    clients = examples[settings.column].to_numpy(dtype=object) if isinstance(settings, Natural) else None
    period = np.zeros(len(examples), dtype=np.int64)
    if settings.periods is not None:
        times, known = (each[settings.periods.column].to_numpy(dtype=object) for each in (examples, train))
        period = schemes.periods_among(times, known, periods)
    return held_out_table(examples["example_id"], split, clients, period)


def _vectors(settings: FeatureShift, source: Path, key: str) -> NDArray[np.float32]:
    """Return (n, dimension) vectors of the texts."""
    # torch takes seconds to import, and no other scheme needs it.
    from stages.models.encoders import embed

    texts = list(artifacts.read_table(source, ["text"])["text"])
    return embed(settings.encoder, settings.max_length, texts, f"{key}.max_length")


def _text_columns(source: Path) -> list[str]:
    fields = pq.read_schema(source)
    return [field.name for field in fields if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]


def _about(name: str, settings: PartitionSettings, source: Path) -> About:
    return About(
        study="partitions",
        cell=name,
        verb="partition",
        role="partition",
        command=f"python -m stages.partition --partition {name}",
        inputs_sha256=artifacts.sha256([source]),
        dataset=settings.dataset,
        partition=name,
        mechanism=settings.scheme,
    )


if __name__ == "__main__":
    command.run(main)
