"""Which versions of packages a project is locked to: what pyproject.toml and the files of requirements/ pin."""

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path("pyproject.toml")
LOCK = Path("requirements/lock.txt")
# Data and weights that come as packages: all of them.
CARRYING = Path("requirements/packages.txt")
# What pins versions of all others: torch stands in the first, since each machine takes the build that suits it.
PINS = (PROJECT, LOCK)
OR = " or "
_PINNED = re.compile(r'\s*"?([\w.-]+==[^"\\#]+?)(?:",?|\s+(?:\\|--|#).*)?')


def locked_versions(*texts: str) -> dict[str, str]:
    """Return name -> version of what requirements files or a pyproject.toml pin; `2.4.6 or 2.5.5` if it depends."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for pin in _pins(text):
            found.setdefault(pin.name, set()).add(_version(pin))
    return {name: OR.join(sorted(versions)) for name, versions in found.items()}


def versions_here(text: str) -> dict[str, str]:
    """Return canonical name -> version of what a requirements file pins for this Python and system."""
    return {
        canonicalize_name(pin.name): _version(pin) for pin in _pins(text) if pin.marker is None or pin.marker.evaluate()
    }


def _pins(text: str) -> Iterator[Requirement]:
    # A line each, in quotes in a pyproject.toml; hashes stand behind them.
    for line in text.splitlines():
        if found := _PINNED.fullmatch(line):
            yield Requirement(found[1])


def _version(pin: Requirement) -> str:
    return next(each.version for each in pin.specifier if each.operator == "==")
