"""What the pipeline itself costs: a repro with nothing to do, start-up, and two stages against plain tools."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.harness import Row, compare, process, run
from stages.common.packages import package_path
from stages.partition.schemes import label_shift

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DATASET = "newsgroups"
ROWS = (2_000, 10_000)
CLIENTS, ALPHA = 50, 0.1

# What somebody without a pipeline would write: the same file through `datasets`, shuffled, split, saved.
LOAD_WITH_DATASETS = """
import sys
from datasets import load_dataset
path, rows, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
table = load_dataset("csv", data_files=path, delimiter="\\t", skiprows=[1, 2], split="train", cache_dir=out)
table = table.shuffle(seed=0).select(range(rows)).train_test_split(test_size=0.1, seed=0)
for split in table:
    table[split].to_parquet(f"{out}/{split}.parquet")
"""


def cases() -> list[Row]:
    """Return every row; the no-op repro needs a reproduced checkout."""
    dvc, assay = str(BIN / "dvc"), str(BIN / "assay")
    rows = [
        compare(
            "dvc repro, nothing to do", process([dvc, "repro"], ROOT), "dvc --help", process([dvc, "--help"], ROOT), 8.0
        ),
        compare("assay --help", process([assay, "--help"], ROOT), "dvc --help", process([dvc, "--help"], ROOT), 1.0),
    ]
    rows += [_prepare(count) for count in ROWS]
    rows += [_partition(count) for count in ROWS]
    return rows


def _prepare(count: int) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = _parameters()["datasets"][DATASET]
        shutil.copytree(ROOT / "requirements", folder / "requirements")
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump({"datasets": {DATASET: settings | {"limit": {"train": count}}}}, file)
        source = package_path(settings["package"], settings["files"]["train"][0]["path"])
        ours = process([sys.executable, "-m", "stages.prepare", "--dataset", DATASET], folder)
        peer = [sys.executable, "-c", LOAD_WITH_DATASETS, str(source), str(count), str(folder / "peer")]

        def fresh() -> None:
            # `datasets` caches what it has read; the first read is what a stage does.
            shutil.rmtree(folder / "peer", ignore_errors=True)
            process(peer, folder)()

        return compare(f"prepare {DATASET}, {count} rows", ours, "datasets: load, shuffle, split, save", fresh, 1.0)


def _partition(count: int) -> Row:
    labels = np.random.default_rng(0).integers(0, 20, size=count)

    def ours() -> object:
        return label_shift(labels, CLIENTS, ALPHA, np.random.default_rng(0), "benchmark")

    def peer() -> object:
        return dirichlet_by_label(labels, CLIENTS, ALPHA, np.random.default_rng(0))

    return compare(f"partition, {count} labels to {CLIENTS} clients", ours, "numpy, Dirichlet per label", peer, 5.0)


def dirichlet_by_label(labels: Any, clients: int, alpha: float, generator: np.random.Generator) -> Any:
    """Return the client of each example by the usual short script: each label's rows cut at Dirichlet shares."""
    owner = np.empty(len(labels), dtype=np.int64)
    for _, rows in pd.Series(np.arange(len(labels))).groupby(labels):
        shuffled = generator.permutation(rows.to_numpy())
        cuts = (np.cumsum(generator.dirichlet(np.full(clients, alpha))) * len(shuffled)).astype(int)[:-1]
        for client, part in enumerate(np.split(shuffled, cuts)):
            owner[part] = client
    return owner


def _parameters() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(ROOT / "params.yaml")))
    return content


if __name__ == "__main__":
    run("pipeline", __doc__ or "", cases)
