"""What the engine keeps beside DVC's own temporary files, out of git: its lock, logs, journal and durations."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from stages.common.errors import InputError

FOLDER = Path(".dvc/tmp/assay")


class Workplace:
    """The engine's files in one repository."""

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self.journal = self.folder / "journal"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only engine at work in the repository; InputError names the other."""
        self.journal.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+", encoding="utf-8") as file:
            try:
                # The kernel lets go of it however this process ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    str(self.folder.parents[2]),
                    f"another `assay run` is at work here (process {file.read().strip() or 'unknown'})",
                    "wait for it, or stop it with Ctrl-C",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def log(self, stage: str) -> Path:
        """Return where a stage's output is kept."""
        return self.folder / "logs" / f"{quote(stage, safe='@')}.log"

    def durations(self) -> dict[str, float]:
        """Return how many seconds each stage took when it last ran here."""
        with suppress(OSError, ValueError):
            found: dict[str, float] = json.loads((self.folder / "durations.json").read_text(encoding="utf-8"))
            return found
        return {}

    def remember(self, durations: Mapping[str, float]) -> None:
        """Keep durations for the next run; nothing depends on them, so a full disk is no error."""
        with suppress(OSError):
            write(self.folder / "durations.json", json.dumps(self.durations() | dict(durations), sort_keys=True))


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, over what was there; it keeps the permissions that it had.

    There is one writer, so what it leaves when it is killed has a name of its own: `incomplete(path)`.
    """
    temporary = incomplete(path)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def incomplete(path: Path) -> Path:
    """Return the name of a file while it is written."""
    return path.with_name(f".{path.name}.incomplete")
