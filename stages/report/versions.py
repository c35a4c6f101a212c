"""Which packages the numbers were made with."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.common.errors import InputError
from stages.results.locks import CARRYING, OR, PINS, locked_versions

# Those that decide numbers; the others are in the files.
COMPUTING = (
    "torch",
    "transformers",
    "tokenizers",
    "dp-accounting",
    "scikit-learn",
    "scipy",
    "numpy",
    "pandas",
    "pyarrow",
    "datasets",
    "dvc",
)


@dataclass(frozen=True)
class Package:
    """A package, its locked version or versions, and the installed one if that is another (`none`: not installed)."""

    name: str
    locked: str
    installed: str | None


def packages() -> list[Package]:
    """Return what is locked of the packages that compute, and of those that carry data and weights.

    Raises:
        InputError: A lock file is absent.
    """
    locked, carrying = locked_versions(*map(_read, PINS)), locked_versions(_read(CARRYING))
    pinned = {name: locked[name] for name in COMPUTING if name in locked} | carrying
    return [Package(name, wanted, _other(name, wanted)) for name, wanted in pinned.items()]


def _other(name: str, wanted: str) -> str | None:
    try:
        found = version(name)
    except PackageNotFoundError:
        return "none"
    # A build for one kind of machine is the same version: 2.13.0+cpu.
    return None if found.partition("+")[0] in wanted.split(OR) else found


def _read(path: Path) -> str:
    if not path.is_file():
        raise InputError(str(path), "no such file", "it belongs to the project: `git checkout` brings it back")
    return path.read_text(encoding="utf-8")
