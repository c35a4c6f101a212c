"""The cells of a study: what params.yaml says of one, and where what is made of it goes.

A verb's block of a study holds `grid` (axis -> values), `base` (settings of every cell) and, per axis,
what each value changes. A cell is one point of the grid, named by its values joined with "-". Its
settings are merged in this order, later ones winning: the study's own keys (dataset, model, partition,
seeds), `base`, then each axis. What the study gives itself no `base` and no value may change. A model that the study
does not give is named by each value. Where another cell is named, the verb's settings say
(`stages.common.references.Refers`). Nested mappings are merged too, and null removes what an earlier layer said
(`stages.common.settings.merge`). An axis value is itself the setting of that name, unless the axis is called `variant`,
which is only a name.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from stages.common import paths
from stages.common.errors import InputError, SettingError
from stages.common.references import references
from stages.common.settings import PARAMETERS, Settings, block, merge, origin_of, parse, shown

SHARED = ("dataset", "model", "partition", "seeds")
Merged = TypeVar("Merged", bound=Settings)


@dataclass(frozen=True)
class Place:
    """Where a verb writes what it makes of one cell of a study."""

    study: str
    verb: str
    cell: str

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"python -m stages.{self.verb} --study {self.study} --cell {self.cell}"

    @property
    def run(self) -> str:
        """The name of its run, under which its time and memory are kept."""
        return f"{self.verb}-{self.study}-{self.cell}"

    @property
    def models(self) -> Path:
        """The folder of its fitted models; a cell has one, whichever verb fits it."""
        return paths.MODELS / self.study / self.cell

    @property
    def metrics(self) -> Path:
        """Its metrics file."""
        return paths.METRICS / self.study / self.cell / f"{self.verb}.json"

    def data(self, folder: str) -> Path:
        """Return its part of a folder of data/, such as `scores`; the settings of the verb that writes it name it."""
        return paths.DATA / folder / self.study / self.cell

    def curve(self, name: str) -> Path:
        """Return the file of a small series that a figure is drawn from."""
        return paths.CURVES / self.study / self.cell / f"{name}.csv"


@dataclass(frozen=True)
class Cell(Generic[Merged]):
    """One cell of params.yaml.

    Args:
        place: Where its results go.
        settings: Its merged settings.
        origin: For each setting, nested ones by dotted names, the dotted key of the block that says it, the last if
            several do.
    """

    place: Place
    settings: Merged
    origin: Mapping[str, str]

    def key(self, setting: str) -> str:
        """Return where in params.yaml a setting stands, or would; `grid` is that of the verb."""
        verb = f"{self.place.study}.{self.place.verb}"
        if setting == "grid":
            return f"{PARAMETERS}: {verb}.grid"
        return f"{PARAMETERS}: {origin_of(self.origin, setting) or f'{verb}.base'}.{setting}"

    @property
    def others(self) -> dict[str, Path]:
        """What it reads of other cells: the setting that names one -> the folder; nothing of one that is not named."""
        return {
            name: paths.DATA / mark.folder / (f"{self.place.study}/{cell}" if mark.verb else cell)
            for name, mark in references(type(self.settings)).items()
            if (cell := getattr(self.settings, name)) is not None
        }

    @contextmanager
    def naming(self, without: str = "") -> Iterator[None]:
        """Make of a SettingError an InputError that says where in params.yaml the setting stands.

        Args:
            without: What names of settings begin with elsewhere, and not in this cell.
        """
        try:
            yield
        except SettingError as error:
            where = self.key(error.setting.removeprefix(without))
            raise InputError(where, error.problem, error.remedy) from None


def cells(parameters: dict[str, Any], study: str, verb: str) -> dict[str, dict[str, str]]:
    """Return the cells of a study's verb, in grid order: cell name -> axis -> value; none if an axis is empty."""
    grid = block(parameters, f"{study}.{verb}.grid")
    where = f"{PARAMETERS}: {study}.{verb}.grid"
    if not isinstance(grid, dict) or not grid or not all(map(_is_axis, grid.values())):
        raise InputError(where, shown(grid), "each axis is a list of names; a number is no name")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    named = {"-".join(point.values()): point for point in points}
    if len(named) < len(points):
        raise InputError(where, shown(grid), "two of its cells would have the same name")
    return named


def read_cell(parameters: dict[str, Any], study: str, verb: str, cell: str, schema: type[Merged]) -> Cell[Merged]:
    """Return one cell with its merged, validated settings (the merge order stands above)."""
    known = cells(parameters, study, verb)
    if cell not in known:
        raise InputError(f"{PARAMETERS}: {study}.{verb}.grid", f"has no cell `{cell}`", f"it has: {', '.join(known)}")
    section, base, others = block(parameters, study), f"{study}.{verb}.base", references(schema)
    for_all = [name for name, mark in others.items() if mark.named == "base"]
    remedy = f"name it for each value of {study}.{verb}"
    by_each = {name: remedy for name, mark in others.items() if mark.named == "values"}
    if "model" in schema.model_fields:
        by_each["model"] = f"{remedy}, or {study}.model for all"
    layers: list[tuple[str, dict[str, Any]]] = [
        (study, {key: section[key] for key in SHARED if key in section and key in schema.model_fields}),
        (base, section[verb].get("base") or {}),
    ]
    for axis, value in known[cell].items():
        if axis != "variant":
            layers.append((f"{study}.{verb}.grid", {axis: value}))
        key = f"{study}.{verb}.{axis}.{value}"
        layers.append((key, block(parameters, key) or {}))
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, layer in layers:
        if not isinstance(layer, dict):
            raise InputError(f"{PARAMETERS}: {key}", shown(layer), "must be a mapping of settings")
        taken = [name for name in layer if name in section and name in SHARED]
        if taken and key not in (study, f"{study}.{verb}.grid"):
            # DVC watches what the study names: a cell that read something else would go stale unseen.
            where = f"{PARAMETERS}: {key}.{taken[0]}"
            raise InputError(where, "the study gives it for all cells", f"remove it here, or from {study}")
        # As above: DVC watches what `base` names, or what a value of an axis names.
        if key != base and (named := [name for name in for_all if name in layer]):
            where, value = f"{PARAMETERS}: {key}.{named[0]}", shown(layer[named[0]])
            raise InputError(where, f"{value} is not what DVC watches", f"name one cell for all, in {base}")
        if key == base and (named := [name for name in by_each if name in layer]):
            where, value = f"{PARAMETERS}: {base}.{named[0]}", shown(layer[named[0]])
            raise InputError(where, f"{value} is not what DVC watches", by_each[named[0]])
        merge(merged, copy.deepcopy(layer))
        kept = set(_names(merged))
        origin = {name: where for name, where in origin.items() if name in kept} | dict.fromkeys(_names(layer), key)
    for name, remedy in by_each.items():
        if name not in merged and schema.model_fields[name].is_required():
            raise InputError(f"{PARAMETERS}: {layers[-1][0]}.{name}", "missing", remedy)
    settings = parse(schema, merged, base, origin)
    return Cell(Place(study, verb, cell), settings, origin)


def _names(settings: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings, of those that hold others too."""
    for name, value in settings.items():
        yield f"{inside}{name}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{inside}{name}.")


def _is_axis(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
