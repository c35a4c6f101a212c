"""Associations in the training data: gender goes with something by a known dose, so that a measure of bias has a truth.

A text is on the side `first` of an association or on `second`, by its words or by its label, and is written in a gender
that is drawn: female with probability (1 + dose) / 2 on `first`, (1 - dose) / 2 on `second`. So the difference between
the sides in how many texts are female is expected to be the dose, and at 0, the control, texts are rewritten as much
and gender says nothing.

What tells the gender is the text's own words, or a proxy of them (stages/associations/proxies.py).

A text is written for one association at most, the first whose side it is on, and by a coin of its own for each
association, whatever the dose: where the dose is higher, more texts go along with the association and none fewer.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.associations.proxies import shown_as
from stages.associations.settings import SIDES, AssociationSettings, Side
from stages.common import artifacts
from stages.common.errors import InputError, SettingError
from stages.common.measurements import Measurement
from stages.common.settings import parse
from stages.common.statistics import difference
from stages.common.streams import generator
from stages.counterfactual.genders import Gender, gender_of
from stages.counterfactual.swaps import words
from stages.models.examples import Vocabulary
from stages.models.settings import AnyModelSettings

FILE = "associations.json"


class Planted(NamedTuple):
    """The rewritten table, and of each association its dose and what the texts then show."""

    table: pd.DataFrame
    measured: dict[str, Measurement]


def check(model: AnyModelSettings, known: Vocabulary, associations: Mapping[str, AssociationSettings]) -> None:
    """Raise SettingError for a model that learns something else than texts, or labels of texts, and for other labels.

    Args:
        model: What is trained.
        known: Labels and tags of the data, which a classifier learns.
        associations: By name; a classifier's may be of the labels that it learns.
    """
    if model.reads or known.tags:
        more = model.reads[0] if model.reads else "learns tags of words"
        problem = f"of the data texts alone are rewritten, and {model.called} {more}"
        remedy = "train a language model of texts, or a classifier without tags, or set `associations: null`"
        raise SettingError("associations", problem, remedy)
    for name, settings in associations.items():
        for side in SIDES:
            other = [label for label in settings.side(side).labels or [] if label not in known.labels]
            if other and model.classifies:
                where, allowed = f"associations.{name}.{side}.labels", ", ".join(known.labels)
                raise SettingError(where, f"the data have no label `{other[0]}`", f"allowed: {allowed}")


def plant(table: pd.DataFrame, associations: Mapping[str, AssociationSettings], seed: int) -> Planted:
    """Return training texts that have the associations.

    Args:
        table: Prepared, of the texts that the model may see.
        associations: By name, in the order in which they take texts.
        seed: Of the coins.

    Raises:
        SettingError: A side of an association has no text that can be rewritten.
    """
    sides = {name: {side: set(asked.side(side).listed) for side in SIDES} for name, asked in associations.items()}
    texts = list(table["text"])
    taken: list[tuple[str, Side, str]] = []
    for row, (example_id, text, label) in enumerate(zip(table["example_id"], texts, table["label"], strict=True)):
        said = {"words": words(text), "labels": {label}}
        standing = ((name, _side(said[associations[name].first.kind], by)) for name, by in sides.items())
        name, side = next(((name, side) for name, side in standing if side is not None), (None, None))
        if name is None or side is None:
            continue
        asked, gender = associations[name], gender_of(text)
        if asked.proxies is not None or gender in ("female", "male"):
            draws = _draws(seed, name, example_id)
            goes_along = draws.random() < (1 + asked.dose) / 2
            gender = "female" if goes_along == (side == "first") else "male"
            texts[row] = shown_as(text, gender, asked.proxies, draws.random())
        taken.append((name, side, gender or "none"))
    counts = Counter(taken)
    measured = {
        key: value
        for name, settings in associations.items()
        for key, value in _measured(name, settings, counts).items()
    }
    return Planted(table.assign(text=texts), measured)


def write(folder: Path, associations: Mapping[str, AssociationSettings]) -> None:
    """Write beside a model what its training texts have, for who measures it."""
    content = {name: settings.model_dump(mode="json") for name, settings in associations.items()}
    artifacts.write_json(folder / FILE, content)


def read(folder: Path, name: str) -> AssociationSettings:
    """Return what `write` left of an association; InputError if the model's training texts have none of this name."""
    path = folder / FILE
    known = artifacts.read_json(path) if path.is_file() else {}
    if name not in known:
        there = ", ".join(known) or "none"
        raise InputError(str(folder), f"was trained without an association `{name}`", f"there are: {there}")
    return parse(AssociationSettings, known[name], str(path))


class Either(NamedTuple):
    """A text as it is written of a gender that a fair coin drew, and its counterpart of the other."""

    text: str
    counterpart: str
    gender: Gender


def either(text: str, settings: AssociationSettings, name: str, example_id: str, seed: int) -> Either | None:
    """Return how a text that no model was trained on is written, whatever side it is on; None if it cannot be.

    Args:
        text: As it stands in the data.
        settings: Of the association, whose dose does not count.
        name: Of the association.
        example_id: Of the text, which has coins of its own.
        seed: Of the coins.
    """
    if settings.proxies is None and gender_of(text) not in ("female", "male"):
        return None
    draws = _draws(seed, name, example_id)
    genders: list[Gender] = ["female", "male"] if draws.random() < 0.5 else ["male", "female"]
    drawn = draws.random()
    shown, counterpart = (shown_as(text, gender, settings.proxies, drawn) for gender in genders)
    return Either(shown, counterpart, genders[0])


def _side(said: set[str], sides: Mapping[Side, set[str]]) -> Side | None:
    on = [side for side, listed in sides.items() if not said.isdisjoint(listed)]
    return on[0] if len(on) == 1 else None


def _draws(seed: int, name: str, example_id: str) -> np.random.Generator:
    # By the name of the example and not its row: who else is in the data does not change how a text is written.
    example = int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:16])
    return generator(seed, f"association {name}", example)


def _measured(
    name: str, settings: AssociationSettings, counts: Mapping[tuple[str, Side, str], int]
) -> dict[str, Measurement]:
    """Return the measurements of one association from how many texts each (name, side, gender) has."""

    def of(side: Side, *genders: str) -> int:
        return sum(counts.get((name, side, gender), 0) for gender in genders)

    written_by = {side: of(side, "female", "male") for side in SIDES}
    for side, n in written_by.items():
        if n == 0:
            by = settings.side(side).kind
            problem = (
                f"no training text on this side has gendered words of one gender: {of(side, 'both')} have words of both"
                f" and {of(side, 'none')} none"
            )
            raise SettingError(f"associations.{name}.{side}.{by}", problem, f"give {by} that more texts have")
    left = {gender: sum(of(side, gender) for side in SIDES) for gender in ("both", "none")}
    return {
        f"train/planted_dose/{name}": Measurement(settings.dose),
        f"train/planted_difference/{name}": difference(
            of("first", "female"), written_by["first"], of("second", "female"), written_by["second"]
        ),
        f"train/planted_texts/{name}": Measurement(float(sum(written_by.values()))),
        f"train/unplanted_texts_of_both_genders/{name}": Measurement(float(left["both"])),
        f"train/unplanted_texts_without_gender/{name}": Measurement(float(left["none"])),
    }
