"""Write params.yaml from a profile: profiles/quick.yaml is the whole file, the others say what they change.

An overlay is a JSON merge patch in YAML (`stages.common.settings.merge`): mappings are merged, null removes a key,
and everything else, lists too, replaces what was there. Comments and the spelling of numbers are kept. `extends: NAME`
at its top has it change what another overlay left.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines import roundtrip
from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, merge, read_parameters

FOLDER = Path("profiles")
BASE = "quick"
_ABSENT = object()


def available() -> list[str]:
    """Return the names of the profiles, the base first."""
    return [BASE, *sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != BASE)]


def render(name: str) -> str:
    """Return the text of params.yaml under a profile; InputError if there is no such profile."""
    base = _read(BASE)
    if name == BASE:
        return base
    content = roundtrip.load(str(_path(BASE)), base)
    for overlay in _overlays(name):
        merge(content, overlay)
    content["profile"] = name
    return roundtrip.dump(content)


def use(name: str, force: bool = False) -> None:
    """Write params.yaml from a profile.

    Args:
        name: The profile.
        force: Overwrite settings that no profile holds.

    Raises:
        InputError: No such profile, or params.yaml was edited and `force` is not given.
    """
    from stages.common.artifacts import atomic_file  # brings pandas, which nothing else here needs

    text = render(name)
    if PARAMETERS.exists() and not force and not explained():
        raise InputError(
            str(PARAMETERS),
            "has edits that no profile holds, and they would be lost",
            f"move them to {FOLDER}/NAME.yaml, or give --force (`assay profile show` lists them)",
        )
    with atomic_file(PARAMETERS) as temporary:
        temporary.write_text(text, encoding="utf-8")


def explained() -> bool:
    """Return whether params.yaml is exactly what some profile writes."""
    current = PARAMETERS.read_text(encoding="utf-8")
    return any(current == render(name) for name in available())


def differences(name: str) -> list[str]:
    """Return one line for each setting that a profile would change in params.yaml: `key: now -> then`."""
    now = dict(_flat(read_parameters()))
    then = dict(_flat(YAML(typ="safe", pure=True).load(render(name))))
    return [
        f"{key}: {now.get(key, 'absent')} -> {then.get(key, 'absent')}"
        for key in dict.fromkeys([*now, *then])
        if now.get(key, _ABSENT) != then.get(key, _ABSENT)
    ]


def _path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def _read(name: str) -> str:
    # By the list, not by the path: a name such as ../params is none.
    if name not in available() or not _path(name).exists():
        raise InputError(str(FOLDER), f"has no profile `{name}`", f"it has: {', '.join(available())}")
    return _path(name).read_text(encoding="utf-8")


def _overlays(name: str) -> list[MutableMapping[str, Any]]:
    """Return what a profile changes, what it extends first."""
    found: dict[str, MutableMapping[str, Any]] = {}
    following: str | None = name
    while following not in (None, BASE):
        if following in found:
            chain = " -> ".join([*found, following])
            raise InputError(f"{_path(name)}: extends", f"comes back to itself ({chain})", "take one of them out")
        found[following] = roundtrip.load(str(_path(following)), _read(following))
        extended = found[following].pop("extends", None)
        following = None if extended is None else str(extended)
    return list(reversed(found.values()))


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, item in value.items():
        yield from _flat(item, f"{key}.{name}" if key else str(name))
