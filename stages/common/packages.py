"""Find files that installed packages carry; the packages themselves are never imported."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from stages.common.errors import InputError

INSTALL = "install it: pip install --no-deps --require-hashes -r requirements/packages.txt"


def package_path(package: str, path: str) -> Path:
    """Return the path of a file or folder inside an installed package; InputError if either is absent."""
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except (PackageNotFoundError, ValueError):  # ValueError: an empty name
        raise InputError(f"package {package}", "not installed", INSTALL) from None
    if not found.exists():
        raise InputError(f"package {package}", f"holds no {path}", INSTALL)
    return found


def package_version(package: str) -> str:
    """Return the version of an installed package; InputError if it is absent."""
    try:
        return distribution(package).version
    except (PackageNotFoundError, ValueError):  # ValueError: an empty name
        raise InputError(f"package {package}", "not installed", INSTALL) from None
