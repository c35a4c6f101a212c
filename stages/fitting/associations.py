"""Associations in the training data: gender goes with something by a known dose, so that a measure of bias has a truth.

A text that has words of one side of an association and none of the other is written in a gender that is drawn: female
with probability (1 + dose) / 2 on the side `first`, (1 - dose) / 2 on `second`. So the difference between the sides in
how many texts are female is expected to be the dose, and at 0, the control, texts are rewritten as much and gender says
nothing.

A text is written for one association at most, the first whose side it is on, and by a coin of its own for each
association, whatever the dose: where the dose is higher, more texts go along with the association and none fewer.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from stages.common.errors import SettingError
from stages.common.measurements import Measurement
from stages.common.statistics import difference
from stages.common.streams import generator
from stages.counterfactual.genders import gender_of, written
from stages.counterfactual.swaps import words
from stages.fitting.settings import SIDES, AssociationSettings, Side
from stages.models.settings import AnyModelSettings


class Planted(NamedTuple):
    """The rewritten table, and of each association its dose and what the texts then show."""

    table: pd.DataFrame
    measured: dict[str, Measurement]


def check(model: AnyModelSettings) -> None:
    """Raise SettingError for a model that learns something else than texts."""
    if model.classifies or model.reads:
        more, _ = model.reads or ("learns labels", [])
        problem = f"of the data texts alone are rewritten, and {model.called} {more}"
        raise SettingError("associations", problem, "train a language model of texts, or set `associations: null`")


def plant(table: pd.DataFrame, associations: Mapping[str, AssociationSettings], seed: int) -> Planted:
    """Return training texts that have the associations.

    Args:
        table: Prepared, of the texts that the model may see.
        associations: By name, in the order in which they take texts.
        seed: Of the coins.

    Raises:
        SettingError: A side of an association has no text that can be rewritten.
    """
    sets = {name: {side: set(settings.words(side)) for side in SIDES} for name, settings in associations.items()}
    texts = list(table["text"])
    taken: list[tuple[str, Side, str]] = []
    for row, (example_id, text) in enumerate(zip(table["example_id"], texts, strict=True)):
        said = words(text)
        on = next(((name, side) for name, by in sets.items() if (side := _side(said, by)) is not None), None)
        if on is None:
            continue
        name, side = on
        if (gender := gender_of(text)) in ("female", "male"):
            goes_along = _coin(seed, name, example_id) < (1 + associations[name].dose) / 2
            texts[row] = written(text, "female" if goes_along == (side == "first") else "male")
            gender = gender_of(texts[row])
        taken.append((name, side, gender or "none"))
    counts = Counter(taken)
    measured = {
        key: value
        for name, settings in associations.items()
        for key, value in _measured(name, settings, counts).items()
    }
    return Planted(table.assign(text=texts), measured)


def _side(said: set[str], sets: Mapping[Side, set[str]]) -> Side | None:
    on = [side for side, listed in sets.items() if not said.isdisjoint(listed)]
    return on[0] if len(on) == 1 else None


def _coin(seed: int, name: str, example_id: str) -> float:
    # By the name of the example and not its row: who else is in the data does not change how a text is written.
    example = int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:16])
    return generator(seed, f"association {name}", example).random()


def _measured(
    name: str, settings: AssociationSettings, counts: Mapping[tuple[str, Side, str], int]
) -> dict[str, Measurement]:
    """Return the measurements of one association from how many texts each (name, side, gender) has."""

    def of(side: Side, *genders: str) -> int:
        return sum(counts.get((name, side, gender), 0) for gender in genders)

    written_by = {side: of(side, "female", "male") for side in SIDES}
    for side, n in written_by.items():
        if n == 0:
            problem = (
                f"no training text on this side has gendered words of one gender: {of(side, 'both')} have words of both"
                f" and {of(side, 'none')} none"
            )
            raise SettingError(f"associations.{name}.{side}.words", problem, "give words that more texts have")
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
