"""Ask git about a repository."""

import subprocess
from pathlib import Path

from stages.common.errors import InputError


def ask(*arguments: str, root: Path = Path()) -> str | None:
    """Return what git says, without line breaks around it, or None if it refuses."""
    said = ask_bytes(*arguments, root=root)
    return None if said is None else said.decode().strip("\n")


def ask_bytes(*arguments: str, root: Path = Path()) -> bytes | None:
    """Return what git says as it is, or None if it refuses."""
    said = _run(arguments, root)
    return None if said.returncode else said.stdout


def demand(*arguments: str, root: Path, remedy: str) -> str:
    """Return what git says, without line breaks around it; InputError with its reason and `remedy` if it refuses."""
    said = _run(arguments, root)
    if said.returncode:
        raise InputError(str(root), said.stderr.decode(errors="replace").strip(), remedy)
    return said.stdout.decode().strip("\n")


def _run(arguments: tuple[str, ...], root: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
