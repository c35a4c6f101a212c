"""Typed, validated view of params.yaml: reading it, one block of it, and the errors that name what is wrong."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError

PARAMETERS = Path("params.yaml")


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
        origin: For a merged block, the dotted key of the block that each setting came from, nested ones dotted too.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = _keys(first["loc"], value, missing=first["type"] == "missing")
        key = origin_of(origin or {}, ".".join(location)) or key
        where = f"{PARAMETERS}: {'.'.join([key, *location])}"
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(_allowed(schema, first["loc"]))
            raise InputError(where, "no such setting", f"allowed: {allowed}") from None
        if first["type"] == "missing":
            raise InputError(where, "missing", "add it") from None
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        raise InputError(where, f"{shown(first['input'])} is not allowed", message) from None


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


def merge(content: MutableMapping[str, Any], overlay: Mapping[str, Any]) -> None:
    """Change nested settings in place by what an overlay says of them, as a JSON merge patch does (RFC 7396).

    Mappings are merged, null removes a key, and everything else, lists too, replaces what was there. So does a mapping
    of another `kind`: what was said of the one is not said of the other.
    """
    for key, value in overlay.items():
        held = content.get(key)
        if value is None:
            content.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(held, MutableMapping) and held and not _differ(held, value):
            merge(held, value)
        else:
            content[key] = _without_nulls(value)


def origin_of(origin: Mapping[str, str], setting: str) -> str | None:
    """Return the block that a dotted setting came from, or else what would hold it; None if neither is anywhere."""
    while setting and setting not in origin:
        setting = setting.rpartition(".")[0]
    return origin.get(setting)


def _differ(held: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "kind" in value and "kind" in held and value["kind"] != held["kind"]


def _without_nulls(value: Any) -> Any:
    # In place, since the mapping of a profile knows how it is spelt: {a: 1} or one key a line.
    if isinstance(value, MutableMapping):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        for item in value.values():
            _without_nulls(item)
    return value


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


def shown(value: Any) -> str:
    """Return a value as an error names it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
