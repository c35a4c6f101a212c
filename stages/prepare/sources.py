"""Find a data set's files, inside an installed package or on this disk, and read them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import pandas as pd

from stages.common.errors import InputError
from stages.common.packages import package_path, package_version
from stages.prepare import formats
from stages.prepare.settings import File, FileDataset, PackageDataset


@dataclass(frozen=True)
class RawTable:
    """What one file or hub split holds: a column per declared role, values as read."""

    split: str
    name: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Source:
    """All that a data set is made from, and what its card says about where it is from."""

    tables: list[RawTable]
    card: dict[str, Any]


def load(settings: PackageDataset | FileDataset) -> Source:
    """Read every file; InputError if the package or a file is absent or cannot be read."""
    card, locate = _package(settings) if isinstance(settings, PackageDataset) else _local(settings)
    tables, files, metadata = [], [], None
    if settings.metadata is not None:
        path, shown = locate(settings.metadata)
        content = _content(path, settings.metadata)
        metadata = formats.read_metadata(content, settings.format, settings.encoding, settings.metadata)
        card["metadata"] = {"path": shown, **_digest(content, settings.format)}
    for split, entries in settings.files.given().items():
        for entry in entries:
            path, shown = locate(entry.path)
            content = _content(path, entry.path)
            tables.append(_table(settings, split, entry, content, metadata))
            files.append({"path": shown, "split": split, **_digest(content, settings.format)})
            if entry.group:
                files[-1]["group"] = entry.group
    return Source(tables, card | {"files": files})


def by_role(columns: Mapping[str, Sequence[Any]], roles: Mapping[str, str | list[str]]) -> pd.DataFrame:
    """Return a table with a column per role, from columns of the source; values stay as they are.

    A role of several columns has a tuple of their values in each row.
    """
    values: dict[str, Sequence[Any]] = {
        role: columns[names] if isinstance(names, str) else list(zip(*(columns[name] for name in names), strict=True))
        for role, names in roles.items()
    }
    return pd.DataFrame({role: pd.Series(each, dtype=object) for role, each in values.items()})


def _package(settings: PackageDataset) -> tuple[dict[str, Any], Callable[[str], tuple[Path, str]]]:
    card = {"kind": "package", "package": settings.package, "version": package_version(settings.package)}
    return card, lambda name: (package_path(settings.package, name), name)


def _local(settings: FileDataset) -> tuple[dict[str, Any], Callable[[str], tuple[Path, str]]]:
    above = Path(settings.watch).absolute().parent

    def locate(name: str) -> tuple[Path, str]:
        path = Path(name)
        # A card travels to other machines, where an absolute path means nothing.
        shown = path.relative_to(above) if path.is_absolute() else path
        return path, shown.as_posix()

    return {"kind": "file"}, locate


def _content(path: Path, name: str) -> bytes:
    try:
        return _only_member(path, name) if path.suffix == ".zip" else path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(name, (error.strerror or "cannot be read").lower(), "name a file under `files`") from None


def _only_member(path: Path, name: str) -> bytes:
    try:
        with ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) != 1:
                raise InputError(name, f"holds {len(members)} files", "pack each in a zip of its own, or unpack it")
            return archive.read(members[0])
    except BadZipFile as error:
        raise InputError(name, f"no zip archive ({error})", "give a zip of one file, or the file") from None


def _table(settings: PackageDataset | FileDataset, split: str, entry: File, content: bytes, metadata: Any) -> RawTable:
    wanted = settings.columns.of_source()
    columns = formats.read(content, settings.format, settings.encoding, wanted, entry.path, split, metadata)
    rows = by_role(columns, settings.columns.declared())
    if entry.group:
        rows["group"] = entry.group
    return RawTable(split, entry.path, rows)


def _digest(content: bytes, kind: str) -> dict[str, Any]:
    # Git and unzip may turn line ends into CRLF or back; the text is the same and so must the digest be.
    strip = kind != "parquet" and b"\r\n" in content
    digest = hashlib.sha256(content.replace(b"\r", b"") if strip else content).hexdigest()
    return {"sha256": digest, "carriage_returns_stripped_before_hashing": strip}
