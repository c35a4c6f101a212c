"""Read and write what stages hand to each other; nothing half-written ever has a final name."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".incomplete", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it replaces `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path)
    replaced = _sibling(path)
    try:
        yield temporary
        if path.exists():
            # Out of the way first: a kill between the two steps leaves the old content beside, not half a folder.
            path.rename(replaced / path.name)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _sibling(path: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".incomplete", dir=path.parent))
    folder.chmod(0o755)
    return folder


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys; NaN and infinities are refused with ValueError."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read one JSON file; raise InputError if it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path) from None
    except json.JSONDecodeError as error:
        raise InputError(str(path), f"not JSON ({error})", "run the stage that writes it again") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet or CSV, by the suffix of `path`; the index is not kept."""
    with atomic_file(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")
        elif path.suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            raise ValueError(f"{path}: a table is .parquet or .csv")


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet or CSV table; raise InputError if it is absent."""
    if not path.exists():
        raise _missing(path)
    if path.suffix == ".parquet":
        table: pd.DataFrame = pq.read_table(path, columns=columns, use_threads=False).to_pandas()
        return table
    return pd.read_csv(path, usecols=columns)


def sha256(paths: Iterable[Path]) -> str:
    """Return one hex digest over the names and bytes of files, folders read in sorted order; InputError if absent."""
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise _missing(path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(file.as_posix().encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _missing(path: Path) -> InputError:
    return InputError(str(path), "no such file", "run `dvc repro`, which makes what a stage reads")
