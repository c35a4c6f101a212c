"""Why a result differs between two states: what dvc.lock says of the stage that made it and of all before it."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import yaml

from stages.results.locks import locked_versions

Stage = Mapping[str, Any]


class Causes:
    """What two dvc.lock say; they are read once somebody asks.

    Args:
        before: Text of the one, None if there is none.
        after: Text of the other.
    """

    def __init__(self, before: str | None, after: str | None) -> None:
        self._texts = before, after
        self._found: dict[str, list[str]] = {}
        self._own: dict[str, list[str]] = {}

    @cached_property
    def _sides(self) -> list[Mapping[str, Stage]]:
        # In C, since a lock file has thousands of lines. That it is YAML 1.1 makes no difference: both sides are.
        return [(yaml.load(text or "", yaml.CSafeLoader) or {}).get("stages") or {} for text in self._texts]

    @cached_property
    def _makers(self) -> list[dict[str, str]]:
        return [
            {out["path"]: name for name, stage in side.items() for out in stage.get("outs", [])} for side in self._sides
        ]

    @cached_property
    def _within(self) -> dict[str, dict[str, None]]:
        """Folder, or output itself -> the stages with an output there, on either side."""
        found: dict[str, dict[str, None]] = {}
        for makers in self._makers:
            for path, name in makers.items():
                for folder in (path, *_folders(path)):
                    found.setdefault(folder, {})[name] = None
        return found

    def of(self, path: str) -> list[str]:
        """Return what changed in the making of an output: commands, parameters, code, data, the lock of packages."""
        if path not in self._found:
            self._found[path] = self._causes(path)
        return self._found[path]

    def _causes(self, path: str) -> list[str]:
        if self._texts[0] == self._texts[1]:
            return []
        makers = [side[path] for side in self._makers if path in side]
        if len(makers) < 2 or makers[0] != makers[1]:
            return []
        found: dict[str, None] = {}
        for name in self._upstream(makers[1]):
            if name not in self._own:
                self._own[name] = list(self._changes(name))
            found |= dict.fromkeys(self._own[name])
        return list(found)

    @staticmethod
    def environment(before: Iterable[str | None], after: Iterable[str | None]) -> list[str]:
        """Return which packages came, went or changed their version between the files that pin them."""
        one, other = (locked_versions(*(text or "" for text in texts)) for texts in (before, after))
        names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        return [f"{name} {one.get(name, 'not there')} -> {other.get(name, 'not there')}" for name in names]

    def _upstream(self, name: str) -> list[str]:
        """Return a stage and all that it reads from, on either side."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = None
            for side in self._sides:
                for dep in side.get(name, {}).get("deps", []):
                    waiting += self._makers_of(dep["path"])
        return list(found)

    def _makers_of(self, path: str) -> list[str]:
        """Return the stages that make a dependency, something in it, or the folder that it is in."""
        around = [makers[folder] for makers in self._makers for folder in _folders(path) if folder in makers]
        return [*self._within.get(path, ()), *around]

    def _changes(self, name: str) -> Iterator[str]:
        before, after = (side.get(name) for side in self._sides)
        if before is None or after is None:
            yield f"stage {'new' if before is None else 'gone'}: {name}"
            return
        if before.get("cmd") != after.get("cmd"):
            yield f"command of {name}"
        one, other = _parameters(before), _parameters(after)
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                yield f"parameter {key}: {_shown(one.get(key))} -> {_shown(other.get(key))}"
        deps = [{dep["path"]: dep.get("md5") for dep in side.get("deps", [])} for side in (before, after)]
        for path in sorted({*deps[0], *deps[1]}):
            if deps[0].get(path) != deps[1].get(path) and not self._makers_of(path):
                kind = "code" if path.startswith(("stages/", "src/")) or path.endswith(".py") else "data"
                yield f"{'lock' if path.startswith('requirements/') else kind} {path}"


def _parameters(stage: Stage) -> dict[str, Any]:
    return {
        leaf: value
        for content in (stage.get("params") or {}).values()
        for key, each in (content or {}).items()
        for leaf, value in _leaves(key, each)
    }


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for inner, each in value.items():
            yield from _leaves(f"{key}.{inner}", each)
    else:
        yield key, value


def _shown(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _folders(path: str) -> list[str]:
    # As text: it is asked for each dependency and each output of a graph.
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]
