"""What `assay doctor` looks at: Python, packages against the lock files, settings, and DVC's view of the project."""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipelines import graph, profiles
from pipelines.repository import Repository
from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, read_parameters
from stages.results.locks import CARRYING, LOCK, PROJECT, versions_here

SHOWN = 20


@dataclass(frozen=True)
class Check:
    """One thing looked at; `missing` is what the project cannot do without."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the line that `assay doctor` prints."""
        line = f"{self.state:8} {self.name:22} {self.found}"
        return f"{line}\n{'':9}-> {self.remedy}" if self.remedy else line


def examine() -> Iterator[Check]:
    """Yield every check of the project in the current folder."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    yield _python(project["requires-python"])
    lock, packages = _Lock(LOCK), _Lock(CARRYING)
    for line in project["dependencies"]:
        yield lock.check(Requirement(line), needed=True)
    yield lock.check(Requirement(project["optional-dependencies"]["prefect"][0]), needed=False)
    for name in sorted(_data_packages(_parameters())):
        yield packages.check(Requirement(name), needed=True)
    yield _settings()
    yield _profile()
    yield _graph()


def _python(required: str) -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if SpecifierSet(required).contains(found):
        return Check("python", "ok", found)
    return Check("python", "missing", found, f"install Python {required} and run make PYTHON=/path/to/it")


class _Lock:
    """A lock file: the versions it names for this Python and system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions = versions_here(path.read_text(encoding="utf-8"))

    def check(self, requirement: Requirement, needed: bool) -> Check:
        locked = self.versions.get(canonicalize_name(requirement.name))
        install = f"{sys.executable} -m pip install '{requirement}'"  # torch, and packages of your own
        if locked:
            install = f"{sys.executable} -m pip install --no-deps --require-hashes -r {self.path}"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            return Check(requirement.name, "missing" if needed else "note", "not installed", install)
        if locked and found != locked:
            return Check(requirement.name, "note", f"{found}, but {self.path} says {locked}", install)
        if not requirement.specifier.contains(found, prereleases=True):
            return Check(requirement.name, "note", f"{found}, but {PROJECT} says {requirement.specifier}", install)
        return Check(requirement.name, "ok", found)


def _parameters() -> dict[str, Any]:
    try:
        return read_parameters()
    except InputError:
        return {}  # _settings says why


def _data_packages(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        named = {value["package"]} if isinstance(value.get("package"), str) else set()
        return named.union(*map(_data_packages, value.values()))
    return set().union(*map(_data_packages, value)) if isinstance(value, list) else set()


def _settings() -> Check:
    try:
        from pipelines.parameters import validate

        validate(read_parameters())
    except InputError as error:
        return Check(str(PARAMETERS), "missing", f"{error.where}: {error.problem}", error.remedy)
    except ImportError as error:
        return Check(str(PARAMETERS), "missing", f"not checked: {error}", "install what is missing above")
    return Check(str(PARAMETERS), "ok", "valid")


def _profile() -> Check:
    try:
        name = str(read_parameters().get("profile"))
        changes = len(profiles.differences(name))
    except InputError as error:
        return Check("profile", "note", str(error))
    return Check("profile", "ok", f"{name}, {changes} settings edited" if changes else name)


def _graph() -> Check:
    try:
        with Repository(Path.cwd()) as repository:
            plan = graph.read_plan(repository)
    except InputError as error:
        return Check("dvc", "missing", f"{error.where}: {error.problem}", error.remedy)
    except ImportError as error:
        return Check("dvc", "missing", f"not read: {error}", "install what is missing above")
    stale = graph.affected(plan)
    names = ", ".join(stale[:SHOWN]) + (f" and {len(stale) - SHOWN} more" if len(stale) > SHOWN else "")
    would = f"{len(stale)} would run: {names}" if stale else "all up to date"
    return Check("dvc", "ok", f"{len(plan)} stages, {would}", "assay run" if stale else "")
