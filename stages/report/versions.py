"""Which packages the numbers were made with."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stages.common.errors import InputError

# What pins versions: torch stands in the first, since each machine takes the build that suits it.
PINS = (Path("pyproject.toml"), Path("requirements/lock.txt"))
# Data and weights that come as packages: all of them.
CARRYING = Path("requirements/packages.txt")
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
OR = " or "


@dataclass(frozen=True)
class Package:
    """A package, its locked version or versions, and the installed one if that is another (`none`: not installed)."""

    name: str
    locked: str
    installed: str | None


def locked_versions(*texts: str) -> dict[str, str]:
    """Return name -> version of what requirements files or a pyproject.toml pin; `2.4.6 or 2.5.5` if it depends."""
    found: dict[str, set[str]] = {}
    for name, version_ in re.findall(r'^\s*"?([A-Za-z0-9._-]+)==([^\s",;]+)', "\n".join(texts), re.MULTILINE):
        found.setdefault(name, set()).add(version_)
    return {name: OR.join(sorted(versions)) for name, versions in found.items()}


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
