"""The methods of membership inference there are: each gives every example a score, higher for a likelier member."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.attack import lira, rmia
from stages.attack.settings import Method
from stages.common import artifacts
from stages.common.errors import InputError
from stages.models.signals import PARTS, Part, Signals

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Shadows:
    """What shadow models say of n examples.

    Attributes:
        sees: (models, n) whether a model saw an example.
        log_probability: Part -> (models, n), as in Signals.
        logit: Part -> (models, n), as in Signals.
    """

    sees: NDArray[np.bool_]
    log_probability: dict[Part, Values]
    logit: dict[Part, Values]


def read_shadows(path: Path, example_ids: NDArray[np.object_]) -> Shadows:
    """Read what `shadow` wrote; InputError if it is of other examples than `example_ids`, or of too few models."""
    table = artifacts.read_table(path)
    models = table["shadow"].nunique()
    if len(table) != models * len(example_ids) or set(table["example_id"]) != set(example_ids):
        raise InputError(str(path), "is of other examples than the data set has", "run `dvc repro`")
    place = pd.Series(np.arange(len(example_ids)), index=example_ids)
    table = table.assign(place=table["example_id"].map(place)).sort_values(["shadow", "place"])

    def wide(column: str) -> NDArray[np.generic]:
        return table[column].to_numpy().reshape(models, -1)

    sees = wide("member").astype(bool)
    if min(sees.sum(axis=0).min(), (~sees).sum(axis=0).min()) < 2:
        raise InputError(
            str(path), "an example is seen, or not seen, by fewer than two of the models", "train more shadows"
        )
    parts = [part for part in PARTS if f"{part}_logit" in table]
    named = [{part: wide(f"{part}_{kind}").astype(float) for part in parts} for kind in ("log_probability", "logit")]
    return Shadows(sees, *named)


def scores(method: Method, said: Signals, shadows: Shadows | None, parts: tuple[Part, ...]) -> Values:
    """Return (n,) scores by one method of examples that a model said `said` of.

    Args:
        method: How.
        said: By the attacked model.
        shadows: By the shadow models; None only for the loss.
        parts: Looked at. The signals of several add up, as their losses do in training.
    """
    if method == "loss":
        return _sum(said.log_probability, parts)
    assert shadows is not None
    if method.startswith("rmia"):
        relative = rmia.offline if "offline" in method else rmia.online
        return relative(_sum(said.log_probability, parts), _sum(shadows.log_probability, parts), shadows.sees)
    ratio = lira.offline if "offline" in method else lira.online
    own = method.endswith("own_variance")
    deviation = lira.own_deviation if own else lira.global_deviation
    return ratio(_sum(said.logit, parts), _sum(shadows.logit, parts), shadows.sees, deviation)


def _sum(values: dict[Part, Values], parts: tuple[Part, ...]) -> Values:
    total: Values = np.sum([values[part] for part in parts], axis=0)
    return total
