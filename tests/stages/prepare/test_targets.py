"""Targets, patterns that keep a part of a value, and files that are zipped."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.stages.prepare.conftest import Project

COLUMNS = {"text": "body", "label": "link", "target": "title"}


def rows(n: int = 10) -> str:
    lines = [f"body {i},https://www.{'ab'[i % 2]}.org/page/{i},  Title   {i} " for i in range(n)]
    return "\n".join(["body,link,title", *lines, ""])


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def news(project: Project) -> Project:
    project.file("train.zip", zipped(news=rows()))
    project.declare(
        files={"train": [{"path": "texts/train.zip"}]}, columns=COLUMNS, patterns={"label": r"//(?:www\.)?([^/]+)"}
    )
    return project


def test_a_zip_of_one_file_is_read_through_and_a_pattern_keeps_a_part(news: Project) -> None:
    found = pd.concat(news.prepared().values())
    assert list(found.columns) == ["example_id", "text", "label", "target"]
    assert {row.text: (row.label, row.target) for row in found.itertuples()} == {
        f"body {i}": (f"{'ab'[i % 2]}.org", f"Title {i}") for i in range(10)
    }
    zipped_tables, card = news.bytes(), news.card()
    news.file("train.csv", rows())
    news.declare(files={"train": [{"path": "texts/train.csv"}]})
    news.prepared()
    assert {name: content for name, content in news.bytes().items() if name != "card.json"} == {
        name: content for name, content in zipped_tables.items() if name != "card.json"
    }
    # The hash is of what is in it: to zip the same file again changes nothing.
    assert news.card()["source"]["files"][0]["sha256"] == card["source"]["files"][0]["sha256"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "texts/train.zip: no zip archive (File is not a zip file); give a zip of one file"),
        (zipped(one="a", two="b"), "texts/train.zip: holds 2 files; pack each in a zip of its own"),
        (zipped(), "texts/train.zip: holds 0 files"),
    ],
    ids=["broken", "two", "none"],
)
def test_other_zips_are_refused(news: Project, content: bytes, message: str) -> None:
    news.file("train.zip", content)
    assert message in news.refused()


def test_a_value_that_a_pattern_does_not_match_is_missing(news: Project) -> None:
    Path("texts/train.zip").write_bytes(zipped(news=rows() + "body 10,nowhere,title\n"))
    assert "column `link`: label missing in data row 11" in news.refused()
    news.declare(when_missing="drop")
    news.prepared()
    assert news.card()["dropped"]["missing"] == {"train": {"label missing": 1}}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"label": "("}, "'(' is no regular expression (missing ), unterminated subpattern"),
        ({"label": "a"}, "'a' has 0 groups, and one is to be kept"),
        ({"group": "(a)"}, "`patterns` has group, of which `columns` names none"),
        ({"text": "(a)"}, "patterns.text"),
    ],
)
def test_patterns_that_keep_nothing_are_refused(news: Project, patterns: dict[str, Any], message: str) -> None:
    news.declare(patterns=patterns)
    assert message in news.refused()


def test_jsonl_may_have_targets_too(project: Project) -> None:
    lines = [json.dumps({"body": f"body {i}", "link": "a", "title": f"title {i}"}) for i in range(10)]
    project.file("train.jsonl", "\n".join(lines))
    project.declare(format="jsonl", files={"train": [{"path": "texts/train.jsonl"}]}, columns=COLUMNS)
    assert set(pd.concat(project.prepared().values())["target"]) == {f"title {i}" for i in range(10)}
