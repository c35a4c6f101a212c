"""What a stage reads and what dvc.lock says of it, here as on the nodes of a cluster."""

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.repository import Repository
from pipelines.workplace import write


class StageError(Exception):
    """A stage cannot be run or recorded; the message says why."""


def reason(error: BaseException) -> str:
    """Return what an error says, and what led to it."""
    causes = [error, error.__cause__, error.__context__]
    return ": ".join(dict.fromkeys(str(cause) for cause in causes if cause))


def hashes(stage: Any) -> dict[str, Any]:
    """Return the hash of each dependency of a stage, and the value of each parameter that it reads."""
    found: dict[str, Any] = {}
    for item in stage.deps:
        value = item.hash_info.value
        if isinstance(value, dict):
            found |= {f"{item.def_path}: {key}": each for key, each in value.items()}
        else:
            found[item.def_path] = value
    return found


def check_inputs(stage: Any, before: Mapping[str, Any]) -> None:
    """Hash what a stage reads again; StageError if that is not what it was when its commands began."""
    stage.save_deps()
    after = hashes(stage)
    if moved := [path for path in before if before[path] != after[path]]:
        raise StageError(f"changed while it ran: {', '.join(moved)}; nothing is recorded, run again")


def locked_stages(lock: Path) -> list[str]:
    """Return the names of the stages in a lock file."""
    from dvc.utils.serialize import load_yaml

    with suppress(FileNotFoundError):
        return list((load_yaml(str(lock)) or {}).get("stages") or {})
    return []


def update_lock(
    repository: Repository, lock: Path, entries: Iterable[Mapping[str, Any]], known: list[str], order: list[str]
) -> None:
    """Write entries into a lock file, whole or not at all, byte for byte as DVC would.

    Args:
        repository: DVC's repository.
        lock: A dvc.lock.
        entries: What the journal holds.
        known: The stages in it when the run began: they keep their places.
        order: All its stages in the order of `dvc repro`: new ones stand in it after the others.
    """
    from dvc.utils.serialize._yaml import _dump, parse_yaml_for_update

    data = parse_yaml_for_update(lock.read_text(encoding="utf-8"), lock) if lock.exists() else {}
    if not data:
        data.update({"schema": "2.0"})
    stages = data.setdefault("stages", {})
    modified = False
    for entry in entries:
        modified = modified or any(stages.get(name, {}) != each for name, each in entry["stages"].items())
        stages.update(entry["stages"])
    new = [name for name in order if name in stages and name not in known]
    if [name for name in stages if name in new] != new:
        moved = {name: stages.pop(name) for name in new}
        stages.update(moved)
    stream = io.StringIO()
    _dump(data, stream)
    write(lock, stream.getvalue())
    if modified:
        repository.dvc.scm_context.track_file(str(lock))
