"""Attack the models of one cell and write what came of it."""

from collections.abc import Callable
from typing import Literal, assert_never

import pandas as pd
from tqdm import tqdm

from stages.attack.membership import loss_scores, measure, roc_points
from stages.attack.settings import AttackSettings
from stages.common import artifacts, measurements
from stages.common.cells import Cell
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples, read_partition, read_split, rows_of
from stages.models.fitted import about_measuring, load_fitted


def attack(cell: Cell[AttackSettings], seed: int) -> pd.DataFrame:
    """Return seed, example_id, member and score of every member and non-member of one seed."""
    settings = cell.settings
    model = load_fitted(cell.place.study, cell.place.cell, seed)
    pool = model.examples(read_split(settings.dataset, "train"))
    scored, sides = method(settings.method), []
    for split in ("member", "nonmember"):
        held = read_partition(settings.partition, seed, split)
        scores = scored(model.classifier, pool[rows_of(pool.example_ids, list(held["example_id"]))])
        sides.append(scores.assign(seed=seed, member=split == "member"))
    return pd.concat(sides, ignore_index=True)[["seed", "example_id", "member", "score"]]


def method(name: Literal["loss_threshold"]) -> Callable[[TextClassifier, Examples], pd.DataFrame]:
    """Return what gives each example a score: the higher, the more like a member."""
    match name:
        case "loss_threshold":
            return loss_scores
    assert_never(name)


def attack_cell(cell: Cell[AttackSettings]) -> None:
    """Attack all seeds of a cell; write every example's score, the ROC and the metrics."""
    settings, place = cell.settings, cell.place
    about = about_measuring(place, settings.dataset, settings.inputs())
    scores = {seed: attack(cell, seed) for seed in tqdm(settings.seeds, desc="seeds", disable=None)}
    curves = pd.concat({seed: roc_points(table) for seed, table in scores.items()}, names=["seed"])
    measured = {seed: measure(table) for seed, table in scores.items()}
    with artifacts.atomic_folder(place.attacks) as folder:
        artifacts.write_table(folder / "scores.parquet", pd.concat(scores.values()))
    artifacts.write_table(place.curve("roc"), curves.reset_index("seed"))
    measurements.write(place.metrics, about, measured)
