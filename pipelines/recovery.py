"""Put in order what a killed run left: its journal, half-written files, DVC's list of locked files."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.records import locked_stages, update_lock
from pipelines.repository import Repository
from pipelines.workplace import Workplace, incomplete


def recover(repository: Repository, workplace: Workplace) -> list[str]:
    """Record what an earlier, killed run finished and return the stages; to be called before the plan is read."""
    paths = sorted(workplace.journal.glob("*.yaml"))
    entries = [_read_entry(path) for path in paths]
    with repository.locked():
        mend_file_locks(repository)
        # Where the lock file is younger, another process, or git, has written it since: what it says holds.
        fresh = [entry for path, entry in zip(paths, entries, strict=True) if not _is_older(path, Path(entry["lock"]))]
        for lock in sorted({entry["lock"] for entry in fresh}):
            mine = [entry for entry in fresh if entry["lock"] == lock]
            order = [name for entry in mine for name in entry["stages"]]
            update_lock(repository, Path(lock), mine, locked_stages(Path(lock)), order)
    for path in paths:
        path.unlink()
    return [name for entry in fresh for name in entry["stages"]]


def sweep(repository: Repository) -> None:
    """Remove what a killed run left half-written beside the files of DVC and git; the plan must have been read."""
    for stage in repository.stages.values():
        ignored = [Path(output.fspath).parent / ".gitignore" for output in stage.outs if output.is_in_repo]
        for path in {Path(stage.path).with_suffix(".lock"), *ignored}:
            incomplete(path).unlink(missing_ok=True)


def mend_file_locks(repository: Repository) -> None:
    """Remove DVC's list of locked files if its writer was killed amid it: DVC would refuse all work."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = Path(repository.dvc.tmp_dir)
    hard = repository.dvc.config["core"].get("hardlink_lock", False)
    # Whoever writes the list holds this lock.
    with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hard), suppress(FileNotFoundError):
        try:
            json.loads((folder / RWLOCK_FILE).read_text(encoding="utf-8"))
        except ValueError:
            (folder / RWLOCK_FILE).unlink()


def _is_older(path: Path, other: Path) -> bool:
    return other.exists() and path.stat().st_mtime_ns < other.stat().st_mtime_ns


def _read_entry(path: Path) -> dict[str, Any]:
    from dvc.utils.serialize import load_yaml

    entry: dict[str, Any] = load_yaml(str(path))
    return entry
