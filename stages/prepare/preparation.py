"""From a data set's settings to its prepared tables and their card."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common import artifacts
from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.prepare import hub, sources
from stages.prepare.cleaning import clean, rows_without_shares
from stages.prepare.duplicates import remove_duplicates
from stages.prepare.settings import SPLITS, DatasetSettings, HubDataset
from stages.prepare.sources import Source
from stages.prepare.splitting import draw_splits, limit_rows, unseen_labels


@dataclass(frozen=True)
class Prepared:
    """A data set's tables, split -> rows, and the card that documents them."""

    frames: dict[str, pd.DataFrame]
    card: dict[str, Any]


def prepare(name: str, settings: DatasetSettings) -> Prepared:
    """Read, clean, split and document one data set.

    Args:
        name: Key under `datasets` in params.yaml.
        settings: The data set's block.

    Returns:
        For train, valid and test, or for those of which there are files where there is no train, a table with
        example_id, text, label and, where the source has them, what other roles there are (`ROLES`) and answer_start;
        no text is in two of them, and none twice in one but with another question or sentences to compare.

    Raises:
        InputError: The source or its settings cannot give these splits with rows in each.
    """
    where = f"{PARAMETERS}: datasets.{name}"
    source = hub.load(settings) if isinstance(settings, HubDataset) else sources.load(settings)
    frames, missing = _cleaned(source, settings)
    frames, duplicates = remove_duplicates(frames)
    fractions = settings.splits.given()
    drawn = draw_splits(frames["train"], fractions, settings.seed, where) if fractions else {}
    frames |= drawn
    frames, unseen, beyond = _limited({split: frames[split] for split in SPLITS if split in frames}, settings, where)
    _check_rows(frames, where)
    card = {
        "dataset": name,
        "source": source.card,
        "licence": settings.licence,
        "seed": settings.seed,
        "columns": list(next(iter(frames.values())).columns),
        "rows": {split: len(rows) for split, rows in frames.items()},
        "labels": {split: rows["label"].value_counts().to_dict() for split, rows in frames.items()},
        "rows_read": dict(_rows_read(source)),
        "drawn_from_train": {split: len(rows) for split, rows in drawn.items() if split != "train"},
        "dropped": {
            "missing": missing,
            "duplicates": duplicates,
            "labels_unseen_in_train": unseen,
            "beyond_limit": beyond,
        },
    }
    if settings.columns.groups is not None:
        card["groups"] = {split: rows["groups"].explode().value_counts().to_dict() for split, rows in frames.items()}
    if isinstance(settings.columns.groups, list):
        unasked: Counter[str] = Counter()
        for table in source.tables:
            unasked[table.split] += rows_without_shares(table)
        card["rows_without_shares_of_groups"] = dict(unasked)
    return Prepared(frames, card)


def write(prepared: Prepared, folder: Path) -> None:
    """Write the tables and card.json; `folder` is replaced as a whole, or stays as it was."""
    with artifacts.atomic_folder(folder) as temporary:
        for split, rows in prepared.frames.items():
            artifacts.write_table(temporary / f"{split}.parquet", rows)
        artifacts.write_json(temporary / "card.json", prepared.card)


def _cleaned(source: Source, settings: DatasetSettings) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, int]]]:
    parts: dict[str, list[pd.DataFrame]] = {}
    dropped: dict[str, Counter[str]] = {}
    for table in source.tables:
        rows, reasons = clean(table, settings)
        parts.setdefault(table.split, []).append(rows)
        dropped[table.split] = dropped.get(table.split, Counter()) + reasons
    frames = {split: pd.concat(tables, ignore_index=True) for split, tables in parts.items()}
    return frames, {split: dict(reasons) for split, reasons in dropped.items() if reasons}


def _rows_read(source: Source) -> Counter[str]:
    read: Counter[str] = Counter()
    for table in source.tables:
        read[table.split] += len(table.rows)
    return read


def _limited(
    frames: dict[str, pd.DataFrame], settings: DatasetSettings, where: str
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, int]], dict[str, int]]:
    """Drop rows whose label train lacks once it is limited, if there is a train, then limit; count both per split."""
    limits = {split: getattr(settings.limit, split) for split in SPLITS}
    train = limit_rows(frames["train"], "train", limits["train"], settings.seed) if "train" in frames else None
    limited, unseen, beyond = {}, {}, {}
    for split, rows in frames.items():
        known, labels = rows, dict[str, int]()
        if train is not None and split != "train" and settings.when_unseen != "keep":
            labels = unseen_labels(rows, train)
        if labels:
            if settings.when_unseen == "error":
                raise _unseen_refusal(labels, split, where, limits["train"])
            unseen[split] = labels
            known = rows[~rows["label"].isin(labels)]
        limited[split] = limit_rows(known, split, limits[split], settings.seed).reset_index(drop=True)
        if len(limited[split]) < len(known):
            beyond[split] = len(known) - len(limited[split])
    return limited, unseen, beyond


def _unseen_refusal(labels: dict[str, int], split: str, where: str, limit: int | None) -> InputError:
    first, *others = labels
    more = f", and {len(others)} other labels likewise" if others else ""
    remedy = "raise `limit.train` or " if limit else ""
    return InputError(
        where,
        f"label {first!r} occurs {labels[first]} times in {split} and never in train{more}",
        f"{remedy}set `when_unseen: drop`, or `keep` for models that look at no label",
    )


def _check_rows(frames: dict[str, pd.DataFrame], where: str) -> None:
    for split, rows in frames.items():
        if rows.empty:
            raise InputError(
                where,
                f"split `{split}` is left with no rows",
                "give more rows, or change `files`, `labels` or `splits`",
            )
