"""Keep the code that dvc.yaml lists per stage equal to what the stage imports: `make dependencies`."""

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from pipelines import imports, roundtrip
from pipelines.graph import PIPELINE

COMMAND = re.compile(r"python -m stages\.(\w+)")
CODE = "stages/"


def outdated(root: Path) -> dict[str, list[str]]:
    """Return the stages of dvc.yaml whose code list is not what they import: name -> what it should be."""
    return {name: right for name, _, listed, right in _stages(_read(root), root) if listed != right}


def rewrite(root: Path) -> list[str]:
    """Correct dvc.yaml and return the stages that changed."""
    content = _read(root)
    changed = []
    for name, stage, listed, right in _stages(content, root):
        if listed != right:
            others = [path for path in stage.get("deps", []) if not str(path).startswith(CODE)]
            stage["deps"] = [*right, *others]
            changed.append(name)
    if changed:
        (root / PIPELINE).write_text(roundtrip.dump(content), encoding="utf-8")
    return changed


def _read(root: Path) -> MutableMapping[str, Any]:
    return roundtrip.load(str(PIPELINE), (root / PIPELINE).read_text(encoding="utf-8"))


def _stages(content: MutableMapping[str, Any], root: Path) -> Iterator[tuple[str, Any, list[str], list[str]]]:
    for name, entry in content["stages"].items():
        stage = entry.get("do", entry)
        if command := COMMAND.match(str(stage.get("cmd"))):
            listed = [str(path) for path in stage.get("deps", []) if str(path).startswith(CODE)]
            yield name, stage, listed, imports.sources(command[1], root)


if __name__ == "__main__":
    print("dvc.yaml:", ", ".join(rewrite(Path.cwd())) or "every code list is right")
