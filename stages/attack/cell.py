"""Attack the models of one cell and write what came of it."""

from functools import partial

import numpy as np
import pandas as pd

from stages.attack import membership, methods
from stages.attack.methods import Shadows
from stages.attack.settings import AttackSettings
from stages.common import artifacts
from stages.common.cells import Cell
from stages.common.errors import InputError
from stages.common.partitions import splits_of
from stages.measuring.cell import Findings, measure_cell, stated_guarantee
from stages.models.examples import read_split
from stages.models.fitted import load_fitted
from stages.models.signals import PARTS, signals


def attack_cell(cell: Cell[AttackSettings]) -> None:
    """Attack all seeds of a cell; write every example's scores, the ROC and the metrics."""
    settings, place = cell.settings, cell.place
    pool = read_split(settings.dataset, "train")
    shadows = None
    if folder := cell.others.get("shadows"):
        shadows = methods.read_shadows(folder / "signals.parquet", pool["example_id"].to_numpy())
        theirs, ours = (artifacts.read_json(each / "about.json")["model"] for each in (folder, place.models))
        if theirs != ours:
            raise InputError(
                cell.key("shadows"),
                f"`{settings.shadows}` has shadow models of `{theirs}`, and this is a `{ours}`",
                "name a cell of the same model",
            )
    conclude = partial(_conclude, cell)
    measure_cell(cell, _attack, dict.fromkeys(settings.seeds, pool), cell, shadows, conclude=conclude)


def _conclude(cell: Cell[AttackSettings], scores: dict[int, pd.DataFrame]) -> Findings:
    settings = cell.settings
    measured = {seed: membership.measure(table, settings.methods) for seed, table in scores.items()}
    first, every = settings.seeds[0], pd.concat(scores.values(), ignore_index=True)
    measured[first] |= membership.measure_pooled(every, settings.methods, first)
    for seed, other in zip(settings.seeds, [*settings.seeds[1:], first], strict=True):
        # 0 of a model with no guarantee.
        delta = stated_guarantee(cell.place, seed).get("delta") or 0.0
        for method in settings.methods if other != seed else ():
            estimate = membership.estimated_epsilon(scores[seed], scores[other], method, delta)
            measured[seed][f"pool/{membership.metric(method, 'epsilon_estimate')}"] = estimate
    curves = [membership.roc_points(table, settings.methods).assign(seed=seed) for seed, table in scores.items()]
    columns = ["seed", "method", "false_positive_rate", "true_positive_rate"]
    return Findings(measured, {"scores.parquet": every}, {"roc": pd.concat(curves)[columns]})


def _attack(seed: int, pool: pd.DataFrame, cell: Cell[AttackSettings], shadows: Shadows | None) -> pd.DataFrame:
    """Return seed, example_id, member and a column of scores per method, and per method and part if there are two."""
    settings = cell.settings
    model = load_fitted(cell.place.study, cell.place.cell, seed)
    examples = model.examples(pool)
    said = signals(model.classifier, examples)
    parts = tuple(part for part in PARTS if part in said.logit)
    if shadows is not None and tuple(shadows.logit) != parts:
        raise InputError(cell.key("shadows"), f"`{settings.shadows}` is of other data", "name one of the same study")
    columns: dict[str, methods.Values] = {}
    for method in settings.methods:
        columns[method] = methods.scores(method, said, shadows, parts)
        for part in parts if len(parts) > 1 else ():
            columns[f"{method}/{part}"] = methods.scores(method, said, shadows, (part,))
    split = splits_of(settings.partition, seed, examples.example_ids)
    # An attack on a partition without these would compare nothing.
    if missing := {"member", "nonmember"} - set(split):
        raise InputError(cell.key("partition"), f"has no {min(missing)}", "name one with `membership`")
    table = pd.DataFrame({"seed": seed, "example_id": examples.example_ids, "member": split == "member"} | columns)
    return table[np.isin(split, ["member", "nonmember"])]
