"""Files of the project at a commit, or in the working tree, without checking anything out."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Protocol

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines import git
from stages.common.errors import InputError
from stages.results import locks

METRICS = "reports/metrics"
# What a comparison reads, if it is there.
PINS = tuple(map(str, (*locks.PINS, locks.CARRYING)))
READ = (METRICS, "params.yaml", "dvc.lock", *PINS)


class Files(Protocol):
    """The files of one state of the project."""

    name: str

    def read(self, path: str) -> str | None:
        """Return a file's text, or None if it is not there."""


class WorkingTree:
    """The files as they lie here."""

    name = "working tree"

    def read(self, path: str) -> str | None:
        """Return a file's text, or None if it is not there."""
        file = Path(path)
        # What is not UTF-8 is no JSON or YAML either, and said to be none.
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


class Revision:
    """The files at a revision: a commit, a tag, a branch; all are read at once.

    Args:
        name: What git takes.

    Raises:
        InputError: Git knows no such revision, or has not fetched it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        commit = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if commit is None:
            shallow = git.ask("rev-parse", "--is-shallow-repository") == "true"
            remedy = "`git fetch --unshallow`: this clone is shallow" if shallow else "give a commit, a tag or a branch"
            raise InputError(name, "git knows no such revision", remedy)
        self.commit = commit
        there = (git.ask("ls-tree", "--name-only", "-z", commit, "--", *READ) or "").split("\0")
        self._texts = self._extract([path for path in there if path])

    def read(self, path: str) -> str | None:
        """Return a file's text, or None if it is not there."""
        return self._texts.get(path)

    def _extract(self, paths: list[str]) -> dict[str, str]:
        if not paths:
            return {}
        packed = git.ask_bytes("archive", "--format=tar", self.commit, "--", *paths)
        if packed is None:
            raise InputError(self.name, "git cannot read its files", "`git fsck` says more")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = [member for member in archive if member.isfile()]
            found = ((member.name, archive.extractfile(member)) for member in members)
            return {name: file.read().decode("utf-8", errors="replace") for name, file in found if file}


def open_files(name: str | None) -> Files:
    """Return the files at a revision, or in the working tree if none is named."""
    return WorkingTree() if name is None else Revision(name)


def read_json(files: Files, path: Path) -> Any:
    """Return what a JSON file holds; the InputError names the state it was read from."""
    text = files.read(str(path))
    where = f"{path} ({files.name})"
    if text is None:
        raise InputError(where, "no such file", "run `dvc repro` there")
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(where, f"not JSON ({error})", "run the stage that writes it again: `dvc repro`") from None


def read_yaml(files: Files, path: str) -> dict[str, Any]:
    """Return what a YAML file holds; nothing if it is not there."""
    text = files.read(path)
    try:
        content = YAML(typ="safe", pure=True).load(text) if text else {}
    except YAMLError as error:
        raise InputError(f"{path} ({files.name})", f"not YAML ({error})", "mend the line it names") from None
    return content if isinstance(content, dict) else {}
