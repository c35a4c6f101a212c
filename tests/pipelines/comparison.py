"""Run one repository with `dvc repro`, its twin with the engine, and compare all that they leave."""

import contextlib
import difflib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from pipelines.execution import run
from pipelines.session import Request
from stages.common.errors import InputError


def compare(serial: Path, parallel: Path, options: dict[str, Any], where: str) -> None:
    """Run the one with DVC, the other with the engine, and compare all they leave."""
    expected, found = run_serial(serial, **options), run_parallel(parallel, **options)
    where += f", {options}" if options else ""
    assert found == expected, where
    if found["failed"]:
        keep_ignored(serial, parallel)
    if diff := differences(contents(serial), contents(parallel)):
        pytest.fail(f"{where}\n{diff}")
    assert look(parallel, dry=False) == look(serial, dry=False), where
    assert look(parallel, dry=True) == look(serial, dry=True), where


def keep_ignored(serial: Path, parallel: Path) -> None:
    """Bring over DVC's .gitignore after a failure, when it takes lines out that the engine keeps."""
    for ours in parallel.rglob(".gitignore"):
        theirs = serial / ours.relative_to(parallel)
        lines = theirs.read_text().splitlines() if theirs.exists() else []
        assert set(lines) <= set(ours.read_text().splitlines())
        ours.unlink()
        if theirs.exists():
            shutil.copy(theirs, ours)


def differences(serial: dict[str, Any], parallel: dict[str, Any]) -> str:
    """Return a diff of two repositories, file by file."""
    lines: list[str] = []
    for path in sorted(serial.keys() | parallel.keys()):
        left, right = (str(side.get(path, "missing")).replace("\\n", "\n").splitlines() for side in (serial, parallel))
        if left != right:
            lines += difflib.unified_diff(left, right, f"serial/{path}", f"parallel/{path}", n=8, lineterm="")
    return "\n".join(lines)


def run_serial(root: Path, folder: str = "", **options: Any) -> dict[str, Any]:
    with contextlib.chdir(root / folder), Repo() as repo:
        error = None
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                repo.reproduce(on_error="keep-going", **options)
        except Exception as caught:
            error = caught
    return {"failed": error is not None, "began": began(root)}


def run_parallel(root: Path, folder: str = "", **options: Any) -> dict[str, Any]:
    request = Request(jobs=3, keep_going=True, **options)
    status = 2
    with (
        contextlib.chdir(root / folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(InputError),
    ):
        status = run(request, dry_run=False, prefect=False, as_json=True)
    return {"failed": bool(status), "began": began(root)}


def began(root: Path) -> list[str]:
    """Return whose commands were started since the last look."""
    path = root / ".dvc/tmp/began"
    names = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def look(root: Path, dry: bool) -> Any:
    """Return what `dvc status`, or `dvc repro --dry`, says of a repository."""
    with contextlib.chdir(root), Repo() as repo, contextlib.redirect_stdout(io.StringIO()):
        try:
            if dry:
                return [stage.addressing for stage in repo.reproduce(on_error="keep-going", dry=True)]
            return json.dumps(repo.status(), default=str)
        except Exception as error:
            return f"{type(error).__name__}: {error}".replace(str(root), "")


def contents(root: Path) -> dict[str, Any]:
    """Return all files of a repository: how they are linked, who may do what with them, and what they hold."""
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root)
        if str(place) in (".git", ".dvc/tmp"):
            folders.clear()
            continue
        for name in [*files, *folders]:
            path = root / place / name
            status = path.lstat()
            link = os.path.relpath(path.resolve(), root) if path.is_symlink() else ""
            if path.is_dir():
                found[str(place / name)] = ("folder", link)
                continue
            found[str(place / name)] = (oct(status.st_mode), status.st_nlink, link, path.read_bytes())
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=root, capture_output=True, text=True, check=True)
    found["git index"] = listed.stdout
    return found
