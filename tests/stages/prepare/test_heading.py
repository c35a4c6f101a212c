"""Texts that another column's value is put before."""

import pytest

from tests.stages.prepare.conftest import Project

COLUMNS = {"text": "quote", "label": "mood", "author": "who"}


@pytest.fixture
def play(project: Project) -> Project:
    project.file(
        "train.csv",
        "quote,mood,who\n so  long,low,Ann\nhi,high, Bob \nhi,high,Ann\nhi,low,Ann\n,low,Cy\n"
        + "".join(f"line {row},low,Cy\n" for row in range(9)),
    )
    project.declare(columns=COLUMNS, headed_by="author", when_missing="drop", when_unseen="keep")
    return project


def test_a_text_begins_with_who_says_it_and_is_a_duplicate_only_of_the_same_ones(play: Project) -> None:
    rows = {tuple(row) for table in play.prepared().values() for row in table[["text", "author"]].to_numpy()}
    lines = {(f"Cy: line {row}", "Cy") for row in range(9)}
    assert rows - lines == {("Ann: hi", "Ann"), ("Ann: so long", "Ann"), ("Bob: hi", "Bob")}
    # One without a text of its own is missing, whoever says it.
    assert play.card()["dropped"]["missing"] == {"train": {"text missing": 1}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headed_by": "time"}, "`headed_by` has time, and `columns` names text, label, author"),
        ({"headed_by": "label"}, "'label' is not allowed"),
        ({"columns": {**COLUMNS, "tokens": "quote"}}, "would move the words that `tokens` or `answers` tell of"),
    ],
    ids=str,
)
def test_what_cannot_head_a_text_is_refused(play: Project, changes: dict[str, object], message: str) -> None:
    play.declare(**changes)
    assert message in play.refused()
