"""What a user can get wrong: one line that says what, where and the way out; exit code 2; nothing left behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.stages.prepare.conftest import Project

ROOT = Path(__file__).parents[3]
GOOD = "text,label\n" + "".join(f"sentence {i},{'ab'[i % 2]}\n" for i in range(20))


def test_command_line(project: Project) -> None:
    project.file("train.csv", GOOD)
    project.prepared()
    command = [sys.executable, "-m", "stages.prepare", "--dataset"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "mine"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    failed = subprocess.run([*command, "other"], env=environment, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr == "error: params.yaml: datasets: has no `other`; it has: mine\n"


def test_unknown_dataset(project: Project) -> None:
    assert project.refused("other") == "error: params.yaml: datasets: has no `other`; it has: mine\n"


def test_missing_column(project: Project) -> None:
    project.file("train.csv", GOOD.replace("label", "topic", 1))
    assert "texts/train.csv: has no column `label`; it has: text, topic" in project.refused()


def test_repeated_column(project: Project) -> None:
    project.file("train.csv", GOOD.replace("text,label", "label,label", 1))
    project.declare(columns={"text": "label", "label": "label"})
    assert "texts/train.csv: has several columns `label`" in project.refused()


@pytest.mark.parametrize("content", ["", "text,label\n", "\n\n"])
def test_empty_file(project: Project, content: str) -> None:
    project.file("train.csv", content)
    assert "texts/train.csv: holds no rows" in project.refused()


def test_empty_jsonl_and_parquet(project: Project, rows: pd.DataFrame) -> None:
    project.file("train.jsonl", "\n")
    project.declare(format="jsonl", files={"train": [{"path": "texts/train.jsonl"}]})
    assert "texts/train.jsonl: holds no rows" in project.refused()
    rows[:0].to_parquet("texts/train.parquet")
    project.declare(format="parquet", files={"train": [{"path": "texts/train.parquet"}]})
    assert "texts/train.parquet: holds no rows" in project.refused()


@pytest.mark.parametrize("missing", ["", "   ", "NaN", "nan"])
def test_missing_text(project: Project, missing: str) -> None:
    project.file("train.csv", GOOD.replace("sentence 3,", f"{missing},").replace("sentence 7,", ","))
    error = project.refused()
    assert "texts/train.csv: column `text`: text missing in data row 4 (2 in all)" in error
    assert "when_missing: drop" in error


def test_missing_number_in_parquet(project: Project, rows: pd.DataFrame) -> None:
    project.file("unused", "")
    rows.assign(label=[float("nan"), *[1.0, 2.0] * 9, 1.0]).to_parquet("texts/train.parquet")
    project.declare(format="parquet", files={"train": [{"path": "texts/train.parquet"}]})
    assert "column `label`: label missing in data row 1 (1 in all)" in project.refused()


def test_label_that_is_not_listed(project: Project) -> None:
    project.file("train.csv", GOOD.replace("sentence 5,b", "sentence 5,what?"))
    project.declare(labels={"a": "first", "b": "second"})
    assert "column `label`: label 'what?' not listed in data row 6 (1 in all)" in project.refused()


def test_wrong_encoding(project: Project) -> None:
    project.file("train.csv", GOOD.replace("sentence 0", "café").encode("latin-1"))
    error = project.refused()
    assert "texts/train.csv: not utf-8 text at byte 14" in error
    assert "`encoding`" in error


def test_unknown_encoding(project: Project) -> None:
    project.declare(encoding="klingon")
    assert "params.yaml: datasets.mine.encoding: 'klingon' is not allowed" in project.refused()


def test_label_only_in_test(project: Project) -> None:
    project.file("train.csv", GOOD)
    project.file("test.csv", "text,label\nnew one,a\nother one,zebra\nthird one,zebra\n")
    files = {"train": [{"path": "texts/train.csv"}], "test": [{"path": "texts/test.csv"}]}
    project.declare(files=files, splits={"valid": 0.2})
    error = project.refused()
    assert "label 'zebra' occurs 2 times in test and never in train" in error
    assert "when_unseen: drop" in error


def test_label_that_the_limit_leaves_out(project: Project) -> None:
    project.file("train.csv", GOOD)
    project.declare(limit={"train": 1})
    assert "raise `limit.train` or set `when_unseen: drop`" in project.refused()


def test_split_left_empty(project: Project) -> None:
    project.file("train.csv", "text,label\nfirst,a\nsecond,a\n")
    assert "split `valid` is left with no rows" in project.refused()
    project.file("train.csv", "text,label\n,a\n,a\n")
    project.declare(when_missing="drop")
    assert "split `train` is left with no rows" in project.refused()


def test_more_labels_than_train_can_keep(project: Project) -> None:
    project.file("train.csv", "text,label\n" + "".join(f"sentence {i},label {i}\n" for i in range(20)))
    assert "20 rows with 20 labels cannot give 8 to valid and test" in project.refused()


def test_no_such_file(project: Project) -> None:
    assert "texts/train.csv: no such file or directory" in project.refused()
    Path("texts/train.csv").mkdir(parents=True)
    assert "texts/train.csv: is a directory" in project.refused()


def test_package_not_installed(project: Project) -> None:
    project.declare(source="package", package="no-such-package")
    assert "pip install --no-deps --require-hashes -r requirements/packages.txt" in project.refused()


def test_file_not_in_package(project: Project) -> None:
    project.declare(source="package", package="numpy", files={"train": [{"path": "numpy/absent.csv"}]})
    assert "package numpy: holds no numpy/absent.csv" in project.refused()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("csv", 'text,label\n"never closed,a\nmore,b\n', "line 3: unexpected end of data"),
        ("csv", "text,label\none, two,a\n", "data row 1 has 3 fields and the header 2"),
        ("jsonl", '{"text": "one", "label": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("jsonl", '["one", "a"]\n', "line 1 is no object"),
        ("jsonl", '{"text": ["one"], "label": "a"}\n', "data row 1 holds a list; text must be text or a number"),
        ("jsonl", '{"text": {"a": 1}, "label": "a"}\n', "data row 1 holds a dict"),
        ("parquet", "PAR1 but not really", "not parquet"),
        (
            "slots",
            "fly:O to:O boston:B-city <=> flight\nfly:O to boston:B-city <=> flight\n",
            "line 2 is not `word:TAG",
        ),
        ("slots", "fly:O\n", "line 1 is not `word:TAG"),
    ],
)
def test_broken_files(project: Project, kind: str, content: str, message: str) -> None:
    project.file("train.csv", content)
    project.declare(format=kind)
    assert message in project.refused()


def test_unequal_numbers_of_tokens_and_tags(project: Project) -> None:
    project.file("train.csv", "text,label,tags\nfly to boston,a,O O\n")
    project.declare(columns={"text": "text", "label": "label", "tokens": "text", "tags": "tags"})
    assert "data row 1 has unequal numbers of tokens and tags" in project.refused()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "ftp"}, "datasets.mine.source: 'ftp' is not allowed; one of package, file, hub"),
        ({"sede": 1}, "datasets.mine.sede: no such setting; allowed: columns, encoding, files"),
        ({"seed": None}, "datasets.mine.seed: missing"),
        ({"seed": -1}, "datasets.mine.seed: -1 is not allowed"),
        ({"watch": "elsewhere"}, "`watch` must be texts/train.csv or a folder that holds it"),
        ({"splits": {"valid": 0.2}}, "`test` stands in neither `files` nor `splits`"),
        ({"splits": {"valid": 0.5, "test": 0.5}}, "`splits` leave nothing of train"),
        ({"splits": {"valid": 1.5, "test": 0.2}}, "datasets.mine.splits.valid: 1.5 is not allowed"),
        ({"files": {"train": []}}, "datasets.mine.files.train: [] is not allowed"),
        ({"files": {"train": [{"path": "texts/a"}, {"path": "texts/b", "group": "b"}]}}, "`group` to every file or to"),
        ({"columns": {"text": "text", "label": "label", "tags": "tags"}}, "`tags` belong to `tokens`"),
        ({"limit": {"train": 0}}, "datasets.mine.limit.train: 0 is not allowed"),
        ({"when_missing": "ignore"}, "datasets.mine.when_missing: 'ignore' is not allowed"),
    ],
)
def test_wrong_settings(project: Project, change: dict[str, Any], message: str) -> None:
    project.declare(**change)
    assert message in project.refused()


def test_same_split_from_two_places(project: Project) -> None:
    project.declare(files={"train": [{"path": "texts/train.csv"}], "test": [{"path": "texts/test.csv"}]})
    assert "`test` stands in both `files` and `splits`" in project.refused()


def test_two_meanings_of_group(project: Project) -> None:
    project.declare(
        files={"train": [{"path": "texts/train.csv", "group": "g"}]},
        columns={"text": "text", "label": "label", "group": "group"},
    )
    assert "`group` is given by `files` and by `columns`" in project.refused()


def test_no_space_left(project: Project) -> None:
    project.file("train.csv", GOOD)
    project.prepared()
    before = project.bytes()
    project.declare(seed=1)
    write = pq.write_table
    written = []

    def fail_on_second(table: Any, path: Path, **options: Any) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(table, path, **options)
        written.append(path)

    project.monkeypatch.setattr(pq, "write_table", fail_on_second)
    code, error = project.run()
    assert code == 2
    assert "no space left" in error
    assert error.count("\n") == 1
    assert written
    assert project.bytes() == before
    assert [path.name for path in Path("data/prepared").iterdir()] == ["mine"]
