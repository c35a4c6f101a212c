"""Typed, validated view of params.yaml: a study's grid, its cells, and the settings of one cell.

A verb's block of a study holds `grid` (axis -> values), `base` (settings of every cell) and, per axis,
what each value changes. A cell is one point of the grid, named by its values joined with "-". Its
settings are merged in this order, later ones winning: the study's own keys (dataset, model, partition,
seeds), `base`, then each axis. What the study gives itself no `base` and no value may change. An axis
value is itself the setting of that name, unless the axis is called `variant`, which is only a name.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError

PARAMETERS = Path("params.yaml")
SHARED = ("dataset", "model", "partition", "seeds")
FITTING = ("train", "federate", "distill")  # the verbs that leave a model


class Settings(BaseModel):
    """Base of every block of params.yaml: unknown keys and loose types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed must be given once")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]
Block = TypeVar("Block", bound=BaseModel)


def read_parameters(path: Path = PARAMETERS) -> dict[str, Any]:
    """Read params.yaml as YAML 1.2, the version DVC reads (1.0e-5 is a number there)."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "run from the root of the project") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not YAML ({error})", "mend the line it names") from None
    if not isinstance(content, dict):
        raise InputError(str(path), "holds no keys", "`assay profile use quick` restores it")
    return content


def parse(schema: type[Block], value: Any, key: str, origin: dict[str, str] | None = None) -> Block:
    """Validate one block; the InputError names file, key, value and what is allowed.

    Args:
        schema: The block's model.
        value: What params.yaml holds.
        key: Dotted key of the block.
        origin: For a merged block, the dotted key that each field came from.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = _keys(first["loc"], value, missing=first["type"] == "missing")
        if location and origin and location[0] in origin:
            key = origin[location[0]]
        where = f"{PARAMETERS}: {'.'.join([key, *location])}"
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(_allowed(schema, first["loc"]))
            raise InputError(where, "no such setting", f"allowed: {allowed}") from None
        if first["type"] == "missing":
            raise InputError(where, "missing", "add it") from None
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise InputError(where, f"{_shown(first['input'])} is not allowed", message) from None


def block(parameters: dict[str, Any], key: str) -> Any:
    """Return the block at a dotted key; the InputError lists what is there instead."""
    found: Any = parameters
    for depth, part in enumerate(key.split(".")):
        if not isinstance(found, dict) or part not in found:
            parent = ".".join(key.split(".")[:depth]) or "top level"
            names = ", ".join(map(str, found)) if isinstance(found, dict) else "nothing"
            raise InputError(f"{PARAMETERS}: {parent}", f"has no `{part}`", f"it has: {names}")
        found = found[part]
    return found


def cells(parameters: dict[str, Any], study: str, verb: str) -> dict[str, dict[str, str]]:
    """Return the cells of a study's verb, in grid order: cell name -> axis -> value."""
    grid = block(parameters, f"{study}.{verb}.grid")
    where = f"{PARAMETERS}: {study}.{verb}.grid"
    if not isinstance(grid, dict) or not grid or not all(map(_is_axis, grid.values())):
        raise InputError(where, _shown(grid), "each axis is a list of at least one name; a number is no name")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    named = {"-".join(point.values()): point for point in points}
    if len(named) < len(points):
        raise InputError(where, _shown(grid), "two of its cells would have the same name")
    return named


def cell_settings(parameters: dict[str, Any], study: str, verb: str, cell: str, schema: type[Block]) -> Block:
    """Return the merged, validated settings of one cell (the merge order stands above)."""
    known = cells(parameters, study, verb)
    if cell not in known:
        raise InputError(f"{PARAMETERS}: {study}.{verb}.grid", f"has no cell `{cell}`", f"it has: {', '.join(known)}")
    section = block(parameters, study)
    layers: list[tuple[str, dict[str, Any]]] = [
        (study, {key: section[key] for key in SHARED if key in section and key in schema.model_fields}),
        (f"{study}.{verb}.base", section[verb].get("base") or {}),
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
            raise InputError(f"{PARAMETERS}: {key}", _shown(layer), "must be a mapping of settings")
        taken = [name for name in layer if name in section and name in SHARED]
        if taken and key not in (study, f"{study}.{verb}.grid"):
            # DVC watches what the study names: a cell that read something else would go stale unseen.
            where = f"{PARAMETERS}: {key}.{taken[0]}"
            raise InputError(where, "the study gives it for all cells", f"remove it here, or from {study}")
        merged |= layer
        origin |= dict.fromkeys(layer, key)
    return parse(schema, merged, f"{study}.{verb}.base", origin)


def _is_axis(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def _keys(location: tuple[int | str, ...], value: Any, missing: bool) -> list[str]:
    """Return an error's location as keys of the file: pydantic's also names the member of a union."""
    keys = []
    for depth, part in enumerate(location, start=1):
        held = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if part in held:
            value = value[part]
        elif not (missing and depth == len(location)):
            continue
        keys.append(str(part))
    return keys


def _allowed(schema: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the settings that may stand where an unknown one was found."""
    models = [schema]
    for part in location[:-1]:
        fields = [field.annotation for model in models for name, field in model.model_fields.items() if name == part]
        # Not a field: the tag that names a member of a union, or an index of a list.
        members = [m for m in models if any(part in get_args(f.annotation) for f in m.model_fields.values())]
        models = [inner for annotation in fields for inner in _models(annotation)] or members or models
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
