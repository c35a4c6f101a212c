"""Read a repository of the Hugging Face hub, or a local folder laid out like one, through `datasets`."""

import errno
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.common.errors import InputError
from stages.prepare.formats import check_columns
from stages.prepare.settings import HubDataset
from stages.prepare.sources import RawTable, Source, by_role


def load(settings: HubDataset) -> Source:
    """Read the hub splits under `files`; InputError if the repository, a split or a column cannot be had.

    The repository's files stay in the hub's own cache; the tables that `datasets` makes of them do not:
    when the hub cannot be reached it falls back to tables it finds there, of whatever revision.
    """
    import datasets  # takes a second to import, which only this source should cost

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="assay-hub-") as cache:
        try:
            builder = _builder(settings, cache)
            tables = [_table(builder, settings, split, name) for split, name in settings.files.given().items()]
            card = _card(settings, builder)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            if _out_of_space(error):
                raise OSError(errno.ENOSPC, "no space left", cache) from error
            raise InputError(
                settings.repository, str(error), "check repository, revision, configuration, splits and network"
            ) from None
    return Source(tables, card)


def _builder(settings: HubDataset, cache: str) -> Any:
    import datasets

    # The two halves of datasets.load_dataset, taken apart: only the builder knows which files were read.
    builder = datasets.load_dataset_builder(
        # An absolute path is never mistaken for a hub id.
        str(Path(settings.repository).absolute()) if settings.is_local else settings.repository,
        name=settings.configuration,
        revision=settings.revision,
        cache_dir=cache,
    )
    builder.download_and_prepare()
    return builder


def _table(builder: Any, settings: HubDataset, split: str, name: str) -> RawTable:
    where = f"{settings.repository}, split {name}"
    wanted = settings.columns.of_source()
    dataset = builder.as_dataset(split=name, in_memory=True)
    check_columns(dataset.column_names, wanted, where)
    columns = dataset.select_columns(wanted).to_dict()
    for column in wanted:
        columns[column] = list(map(_decoder(dataset.features[column]), columns[column]))
    return RawTable(split, where, by_role(columns, settings.columns.declared()))


def _decoder(feature: Any) -> Callable[[Any], Any]:
    """Return what turns the hub's label numbers into their names; -1 stands for a label that is withheld."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return lambda number: feature.names[number] if number is not None and number >= 0 else None
    if isinstance(feature, datasets.List):
        inner = _decoder(feature.feature)
        return lambda items: None if items is None else [inner(item) for item in items]
    return lambda value: value


def _card(settings: HubDataset, builder: Any) -> dict[str, Any]:
    folder = Path(settings.repository)
    if settings.is_local:
        shown = folder.name if folder.is_absolute() else folder.as_posix()
        prefix = f"{folder.absolute().as_posix()}/"
    else:
        shown = settings.repository
        prefix = f"hf://datasets/{shown}@{settings.revision}/"
    card: dict[str, Any] = {"kind": "hub", "repository": shown, "splits": settings.files.given()}
    card |= settings.model_dump(include={"revision", "configuration"}, exclude_none=True)
    card["files"] = [
        {"path": address.removeprefix(prefix), "sha256": _sha256(Path(path))}
        for address, path in sorted(builder.dl_manager.downloaded_paths.items())
    ]
    return card


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _out_of_space(error: BaseException | None) -> bool:
    # `datasets` raises other errors in the place of the one that says so.
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        error = error.__cause__ or error.__context__
    return False
