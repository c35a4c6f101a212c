"""Columns whose value is that of the next row, taken before anything is dropped."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.stages.prepare.conftest import Project

COLUMNS = {"text": "quote", "label": "who", "author": "who", "time": "episode"}
# Two scenes; in the first one a line stands twice and one has no text.
SCENES = [
    ("hi", "Ann", "0101"),
    ("hello", "Bob", "0101"),
    ("", "Ann", "0101"),
    ("hi", "Cy", "0101 "),
    ("so", "Bob", "0101"),
    ("well", "Ann", "0102"),
    ("what", "Bob", "0102"),
    ("no", "Ann", "0102"),
]


@pytest.fixture
def play(project: Project) -> Project:
    written(project, "train", SCENES)
    project.declare(columns=COLUMNS, following=["label"], when_missing="drop", when_unseen="keep")
    return project


def written(project: Project, name: str, rows: list[tuple[str, str, str]]) -> None:
    project.file(f"{name}.csv", "quote,who,episode\n" + "".join(f"{quote},{who},{at}\n" for quote, who, at in rows))


def found(project: Project) -> dict[str, tuple[str, str]]:
    tables = project.prepared().values()
    return {row.text: (row.author, row.label) for row in pd.concat(tables).itertuples()}


def test_the_next_row_is_that_of_the_source_and_of_the_same_time(play: Project) -> None:
    # Ann follows Bob, though her text is missing.
    expected = {"hi": ("Ann", "Bob"), "hello": ("Bob", "Ann"), "well": ("Ann", "Bob"), "what": ("Bob", "Ann")}
    play.file("more.csv", "quote,who,episode\nyes,Cy,0102\nnever,Cy,0102\n")
    play.declare(files={"train": [{"path": "texts/train.csv"}, {"path": "texts/more.csv"}]})
    # Neither the last row of an episode nor that of a file has a next one.
    assert found(play) == expected | {"yes": ("Cy", "Cy")}
    assert play.card()["dropped"]["missing"] == {"train": {"text missing": 1, "label missing": 3}}
    assert play.card()["dropped"]["duplicates"]["train"] == {"rows": 1, "rows_with_another_label": 0}


def test_without_a_time_only_the_last_row_of_a_file_lacks_a_next_one(play: Project) -> None:
    play.declare(columns={"text": "quote", "label": "who", "author": "who"})
    assert found(play)["so"] == ("Bob", "Ann")
    assert play.card()["dropped"]["missing"] == {"train": {"text missing": 1, "label missing": 1}}


def test_what_is_limited_and_split_has_the_labels_of_all_rows(play: Project) -> None:
    lines = [(f"line {row}", "Ann" if row % 3 else "Bob", "0101") for row in range(60)]
    written(play, "train", lines)
    play.declare(limit={"train": 9, "test": 3})
    tables = pd.concat(play.prepared().values())
    assert len(tables) == 24
    for row in tables.itertuples():
        assert (row.author, row.label) == tuple(lines[int(row.text.split()[1]) + at][1] for at in (0, 1))


def test_listed_labels_and_patterns_are_of_the_value_that_follows(play: Project) -> None:
    play.declare(labels={"A": "her", "B": "him"}, patterns={"label": "^(.)", "time": "^..(..)"})
    written(play, "train", [*SCENES, *((f"line {row}", "Bob", "0103") for row in range(20)), ("end", "Ann", "0203")])
    labels = found(play)
    # Of the first two digits nothing is kept, so that 0203 is the time of 0103.
    assert labels["line 19"] == ("Bob", "her")
    assert labels["hello"] == ("Bob", "her")
    assert play.card()["dropped"]["missing"] == {"train": {"text missing": 1, "label missing": 3}}
    play.declare(labels={"B": "him"})
    assert "hello" not in found(play)
    assert play.card()["dropped"]["missing"]["train"]["label not listed"] == 3


def test_a_row_without_a_next_one_is_an_error_unless_it_is_dropped(play: Project) -> None:
    written(play, "train", SCENES[3:])
    play.declare(when_missing="error")
    message = (
        "texts/train.csv: column `who`: label missing in data row 2 (2 in all); mend it, or set `when_missing: drop`"
    )
    assert message in play.refused()


def test_the_text_that_follows_may_be_the_target(play: Project) -> None:
    play.declare(columns={"text": "quote", "label": "who", "target": "quote"}, following=["target"])
    written(play, "train", [(f"line {row}", "Ann", "0101") for row in range(20)])
    for row in pd.concat(play.prepared().values()).itertuples():
        assert row.target == f"line {int(row.text.split()[1]) + 1}"


def test_lists_follow_too(play: Project) -> None:
    lines = [{"text": f"a {row}", "label": "x", "tokens": ["a", str(row)], "time": 1} for row in range(20)]
    play.file("train.jsonl", "\n".join(map(json.dumps, lines)))
    play.declare(
        format="jsonl",
        files={"train": [{"path": "texts/train.jsonl"}]},
        columns={name: name for name in lines[0]},
        following=["tokens"],
    )
    tables = pd.concat(play.prepared().values())
    assert len(tables) == 19
    for row in tables.itertuples():
        assert list(row.tokens) == ["a", str(int(row.text.split()[1]) + 1)]


def test_a_folder_like_one_of_the_hub_is_read_alike(play: Project) -> None:
    expected = found(play)
    Path("texts").mkdir(exist_ok=True)
    play.declare(
        source="hub", repository="texts", files={"train": "train"}, format=None, columns=COLUMNS, following=["label"]
    )
    assert found(play) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["lable"], "`following` has lable, and `columns` names text, label, author, time"),
        (["group"], "`following` has group, and `columns` names text"),
        ("label", "datasets.mine.following: 'label' is not allowed"),
    ],
)
def test_a_column_that_is_not_declared_is_refused(play: Project, change: Any, message: str) -> None:
    play.declare(following=change)
    assert message in play.refused()
