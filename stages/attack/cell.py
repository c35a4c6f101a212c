"""Attack the models of one cell and write what came of it."""

import pandas as pd
from tqdm import tqdm

from stages.attack.membership import loss_scores, measure, roc_points
from stages.attack.settings import AttackSettings
from stages.common import artifacts, measurements, paths
from stages.models.examples import partition_path, prepared_path, read_partition, read_split, rows_of
from stages.models.fitted import about_measuring, load_fitted


def attack(study: str, cell: str, settings: AttackSettings, seed: int) -> pd.DataFrame:
    """Return seed, example_id, member and score of every member and non-member of one seed."""
    model = load_fitted(study, cell, seed)
    pool = model.examples(read_split(settings.dataset, "train"))
    sides = []
    for split in ("member", "nonmember"):
        held = read_partition(settings.partition, seed, split)
        scores = loss_scores(model.classifier, pool[rows_of(pool.example_ids, list(held["example_id"]))])
        sides.append(scores.assign(seed=seed, member=split == "member"))
    return pd.concat(sides, ignore_index=True)[["seed", "example_id", "member", "score"]]


def attack_cell(study: str, cell: str, settings: AttackSettings) -> None:
    """Attack all seeds of a cell; write every example's score, the ROC and the metrics."""
    read = [prepared_path(settings.dataset, "train"), partition_path(settings.partition)]
    about = about_measuring(study, cell, "attack", read)
    scores = {seed: attack(study, cell, settings, seed) for seed in tqdm(settings.seeds, desc="seeds", disable=None)}
    curves = pd.concat({seed: roc_points(table) for seed, table in scores.items()}, names=["seed"])
    measured = {seed: measure(table) for seed, table in scores.items()}
    with artifacts.atomic_folder(paths.ATTACKS / study / cell) as folder:
        artifacts.write_table(folder / "scores.parquet", pd.concat(scores.values()))
    artifacts.write_table(paths.CURVES / study / cell / "roc.csv", curves.reset_index("seed"))
    measurements.write(paths.METRICS / study / cell / "attack.json", about, measured)
