"""Make the rows of one source table usable: white space, missing values, labels, token lists."""

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd

from stages.common.errors import InputError
from stages.prepare import answers
from stages.prepare.settings import ROLES, Dataset, Shares
from stages.prepare.sources import RawTable

LISTS = ("tokens", "tags", "groups")
# How a missing number reads once a program has written it as text.
NOT_A_NUMBER = ("nan", "NaN")


def clean(table: RawTable, settings: Dataset) -> tuple[pd.DataFrame, Counter[str]]:
    """Return the rows that have a value in every column and a label that counts, and the others by reason.

    Returns:
        A table with a column per role, in the order of `ROLES`: text, and lists of text for tokens, tags,
        groups and answers; with answers also answer_start, the first one's place in the text. And reason -> number of
        rows dropped.

    Raises:
        InputError: A row is to be dropped and `when_missing` is `error`; or a value has the wrong shape.
    """
    rows, dropped = table.rows, Counter[str]()

    def drop(bad: "pd.Series[bool]", role: str, reason: str) -> pd.DataFrame:
        if bad.any() and settings.when_missing == "error":
            raise _refusal(rows, bad, table, _column(settings, role), role, reason)
        dropped[f"{role} {reason}"] += int(bad.sum())
        return rows[~bad]

    for kept, pattern in settings.patterns.items():
        rows = rows.assign(**{kept: rows[kept].map(partial(_found, re.compile(pattern))).astype(object)})
    # Before any row is dropped: the next row is that of the source.
    rows = rows.assign(**{role: _following(rows, role) for role in settings.following})
    if settings.shares is not None:
        rows = _decided(rows, table, settings, settings.shares)
    for role in table.rows.columns:
        # A text may name no group.
        rows = drop(rows[role].map(_is_none if role == "groups" else _is_missing).astype(bool), role, "missing")
    as_given = rows
    rows = pd.DataFrame(
        {role: _cleaned(rows[role], role, table, settings) for role in ROLES if role in rows.columns},
        index=rows.index,
    )
    if (head := settings.headed_by) is not None:
        rows = rows.assign(text=rows[head] + ": " + rows["text"])
    if settings.labels is not None:
        rows = drop(~rows["label"].isin(list(settings.labels)), "label", "not listed")
        rows = rows.assign(label=rows["label"].map(settings.labels))
    if settings.group_names is not None:
        rows = drop(~rows["group"].isin(list(settings.group_names)), "group", "not listed")
        rows = rows.assign(group=rows["group"].map(settings.group_names))
    if "tags" in rows.columns:
        _check_lengths(rows, table)
    if "answers" in rows.columns:
        rows = _located(rows, as_given)
        rows = drop(rows["answer_start"] == answers.NOWHERE, "answers", "not in the text")
    return rows, +dropped


def normalised(value: Any) -> str:
    """Return a value as text with single spaces; line ends are white space too."""
    return " ".join(str(value).split())


def canonical_label(value: Any) -> str:
    """Return a label as text; a whole number that was read as 1.0, beside missing numbers, is 1 again."""
    return re.sub(r"^(-?\d+)\.0*$", r"\1", normalised(value))


def _found(pattern: re.Pattern[str], value: Any) -> str | None:
    match = pattern.search(value) if isinstance(value, str) else None
    return match[1] if match else None


def _decided(rows: pd.DataFrame, table: RawTable, settings: Dataset, shares: Shares) -> pd.DataFrame:
    """Return rows with labels, and lists of groups, in the place of shares of annotators.

    A share that is missing is none of a group, as in Jigsaw's code; of a label it leaves the label missing.
    """

    def reached(values: "pd.Series[Any]", role: str, name: str) -> "pd.Series[bool]":
        missing, numbers = values.map(_is_missing).astype(bool), values.map(_number_in).astype(float)
        if (wrong := ~missing & ~numbers.between(0, 1)).any():
            problem = f"data row {_number(wrong)} holds {values[wrong].iloc[0]!r}"
            remedy = f"{role} with `shares` must be a number from 0 to 1"
            raise InputError(f"{table.name}: column `{name}`", problem, remedy)
        return numbers >= shares.at_least

    labels = reached(rows["label"], "label", settings.columns.label).map({True: shares.label, False: shares.other})
    rows = rows.assign(label=labels.astype(object).mask(rows["label"].map(_is_missing).astype(bool), None))
    if isinstance(names := settings.columns.groups, list):
        columns = pd.DataFrame(rows["groups"].tolist(), columns=names, index=rows.index, dtype=object)
        named = np.column_stack([reached(columns[name], "groups", name) for name in names])
        groups = pd.Series([list(compress(names, row)) for row in named], index=rows.index, dtype=object)
        rows = rows.assign(groups=groups)
    return rows


def rows_without_shares(table: RawTable) -> int:
    """Return how many rows of a source table, whose groups have a column each, have a share of none of them."""
    return sum(all(map(_is_missing, shares)) for shares in table.rows["groups"])


def _number_in(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _following(rows: pd.DataFrame, role: str) -> "pd.Series[Any]":
    """Return for each row the value of the next one; None if that is of another time, or there is none."""
    values = rows[role].shift(-1, fill_value=None)
    if "time" not in rows:
        return values
    times = rows["time"].map(normalised)
    return values.where(times == times.shift(-1), None)


def _as_list(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(item) for item in value]


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip() or value.strip() in NOT_A_NUMBER
    if isinstance(value, dict):
        return answers.well_formed(value) and answers.is_empty(value)
    return value == [] or _is_none(value)


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cleaned(values: "pd.Series[Any]", role: str, table: RawTable, settings: Dataset) -> "pd.Series[Any]":
    wrong = values.map(lambda value: _has_wrong_shape(value, role)).astype(bool)
    if wrong.any():
        expected = "a list, or text split at white space" if role in LISTS else "text or a number"
        expected = answers.ALLOWED if role == "answers" else expected
        raise InputError(
            f"{table.name}: {_column(settings, role)}",
            f"data row {_number(wrong)} holds a {type(values[wrong].iloc[0]).__name__}",
            f"{role} must be {expected}",
        )
    if role == "answers":
        return values
    convert: Callable[[Any], Any] = _as_list if role in LISTS else canonical_label if role == "label" else normalised
    return values.map(convert).astype(object if role in LISTS else "str")


def _located(rows: pd.DataFrame, as_given: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the texts of their answers, and `answer_start` behind them."""
    found = [answers.located(*each) for each in zip(rows["answers"], as_given.loc[rows.index, "text"], strict=True)]
    rows = rows.assign(answers=pd.Series([texts for texts, _ in found], index=rows.index, dtype=object))
    rows.insert(list(rows.columns).index("answers") + 1, "answer_start", [start for _, start in found])
    return rows


def _has_wrong_shape(value: Any, role: str) -> bool:
    if role == "answers":
        return not answers.well_formed(value)
    if isinstance(value, (dict, bytes)):
        return True
    return not isinstance(value, str) and isinstance(value, list) != (role in LISTS)


def _check_lengths(rows: pd.DataFrame, table: RawTable) -> None:
    different = rows["tokens"].map(len) != rows["tags"].map(len)
    if different.any():
        raise InputError(
            table.name, f"data row {_number(different)} has unequal numbers of tokens and tags", "mend the row"
        )


def _refusal(
    rows: pd.DataFrame, bad: "pd.Series[bool]", table: RawTable, column: str, role: str, reason: str
) -> InputError:
    value = f" {rows.at[bad.idxmax(), role]!r}" if reason != "missing" else ""
    return InputError(
        f"{table.name}: {column}",
        f"{role}{value} {reason} in data row {_number(bad)} ({int(bad.sum())} in all)",
        "mend it, or set `when_missing: drop`",
    )


def _number(rows: "pd.Series[bool]") -> int:
    """Return the first true row's number, from 1; the index is the row's place in its file."""
    return int(str(rows.idxmax())) + 1


def _column(settings: Dataset, role: str) -> str:
    return f"column `{settings.columns.declared()[role]}`"
