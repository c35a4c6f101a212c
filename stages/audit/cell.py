"""Audit the models of one cell and write what came of it."""

import numpy as np
import pandas as pd

from stages.audit.one_run import lower_bound
from stages.audit.settings import AuditSettings
from stages.common import artifacts
from stages.common.cells import Cell
from stages.common.command import warn
from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.statistics import proportion
from stages.measuring.cell import Findings, measure_cell, stated_guarantee
from stages.models.examples import read_split
from stages.models.fitted import load_fitted
from stages.models.signals import signals

BOUND, REFUTED = "canaries/epsilon_lower_bound", "canaries/refuted"


def audit_cell(cell: Cell[AuditSettings]) -> None:
    """Audit all seeds of a cell; write the metrics, and say aloud which stated epsilon is refuted."""
    settings, place = cell.settings, cell.place
    pool = read_split(settings.dataset, "train").set_index("example_id")

    def conclude(measured: dict[int, dict[str, Measurement]]) -> Findings:
        for seed, found in measured.items():
            if (refuted := found.get(REFUTED)) and refuted.value:
                stated, bound = stated_guarantee(place, seed)["epsilon"], found[BOUND].value
                warn(f"seed {seed}: the audit refutes epsilon {stated:.3g}: at 95% it is above {bound:.3g}")
        return Findings(measured)

    measure_cell(cell, _audit, dict.fromkeys(settings.seeds, pool), cell, conclude=conclude)


def _audit(seed: int, pool: pd.DataFrame, cell: Cell[AuditSettings]) -> dict[str, Measurement]:
    place, guesses = cell.place, cell.settings.guesses
    canaries = artifacts.read_table(place.models / str(seed) / "canaries.parquet")
    if guesses > len(canaries):
        raise InputError(cell.key("guesses"), f"{guesses} of {len(canaries)} canaries", "guess no more than there are")
    model = load_fitted(place.study, place.cell, seed)
    table = pool.loc[canaries["example_id"]].reset_index().assign(label=canaries["label"])
    # Only the label of a canary is wrong, so only that tells.
    scores = signals(model.classifier, model.examples(table)).logit["label"]
    included = canaries["included"].to_numpy()
    order = np.argsort(-scores, kind="stable")
    correct = int(included[order[: guesses // 2]].sum() + (~included[order[-(guesses // 2) :]]).sum())
    stated = stated_guarantee(place, seed)
    bound = lower_bound(len(canaries), guesses, correct, stated.get("delta") or 0.0)
    measured = {
        "canaries/correct_guesses": proportion(correct, guesses),
        BOUND: Measurement(bound, guesses),
    }
    if stated["epsilon"] is not None:
        measured[REFUTED] = Measurement(float(bound > stated["epsilon"]), 1)
    return measured
