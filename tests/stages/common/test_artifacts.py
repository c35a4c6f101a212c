import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common import artifacts
from stages.common.errors import InputError


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill_and_fail(context):
    with context as path:
        (path / "new.txt" if path.is_dir() else path).write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_failure_leaves_nothing(tmp_path, folder):
    atomic = artifacts.atomic_folder if folder else artifacts.atomic_file
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(atomic(tmp_path / "there"))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_file(tmp_path):
    (tmp_path / "there").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(artifacts.atomic_file(tmp_path / "there"))
    assert content(tmp_path) == {"there": "old"}


def test_a_failure_keeps_the_old_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/old.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(artifacts.atomic_folder(tmp_path / "there"))
    assert content(tmp_path) == {"there/old.txt": "old"}


def test_a_new_folder_replaces_the_old_one_whole(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/old.txt").write_text("old")
    with artifacts.atomic_folder(tmp_path / "there") as folder:
        (folder / "new.txt").write_text("new")
        assert content(tmp_path / "there") == {"old.txt": "old"}
    assert content(tmp_path) == {"there/new.txt": "new"}


def test_a_new_file_replaces_the_old_one_only_at_the_end(tmp_path):
    path = tmp_path / "there"
    path.write_text("old")
    with artifacts.atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert content(tmp_path) == {"there": "new"}


def test_others_may_read_what_is_written(tmp_path):
    artifacts.write_json(tmp_path / "a/b.json", {})
    with artifacts.atomic_folder(tmp_path / "c"):
        pass
    assert (tmp_path / "a/b.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o755


def test_json_has_sorted_keys_and_keeps_every_letter(tmp_path):
    artifacts.write_json(tmp_path / "x.json", {"b": "é", "a": 1})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "a": 1,\n  "b": "é"\n}\n'
    assert artifacts.read_json(tmp_path / "x.json") == {"a": 1, "b": "é"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_number(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "x.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


def table():
    return pd.DataFrame({"name": ["a", "é"], "number": [1, 2], "part": [0.1, np.nan], "words": [["x"], []]})


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_same_table_is_the_same_bytes_whatever_its_index(tmp_path, suffix):
    for name, index in (("one", [0, 1]), ("two", [7, 9])):
        artifacts.write_table(tmp_path / f"{name}{suffix}", table().set_index(pd.Index(index)))
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_a_table_comes_back_as_it_was_written(tmp_path):
    artifacts.write_table(tmp_path / "t.parquet", table())
    back = artifacts.read_table(tmp_path / "t.parquet")
    assert [list(row) for row in back.pop("words")] == [["x"], []]
    pd.testing.assert_frame_equal(back, table().drop(columns="words"), check_dtype=False)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_only_the_columns_asked_for_are_read(tmp_path, suffix):
    artifacts.write_table(tmp_path / f"t{suffix}", table())
    assert list(artifacts.read_table(tmp_path / f"t{suffix}", ["number"])) == ["number"]


def test_a_table_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a table is .parquet or .csv"):
        artifacts.write_table(tmp_path / "t.xlsx", table())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "read",
    [artifacts.read_json, artifacts.read_table, lambda path: artifacts.sha256([path])],
    ids=["json", "table", "sha256"],
)
def test_an_absent_file_is_a_users_mistake(tmp_path, read):
    with pytest.raises(InputError, match=r"absent.json: no such file; run `dvc repro`"):
        read(tmp_path / "absent.json")


def test_what_is_not_json_is_a_users_mistake(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x.json: not JSON .*run the stage that writes it again"):
        artifacts.read_json(tmp_path / "x.json")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/b.txt", "data/deep/a.txt", "other.txt"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return [Path("data"), Path("other.txt")]


def test_the_hash_is_that_of_the_files_listed_by_hand(tree):
    assert artifacts.sha256(tree) == artifacts.sha256([Path("data/b.txt"), Path("data/deep/a.txt"), Path("other.txt")])


def test_the_hash_changes_with_content(tree):
    before = artifacts.sha256(tree)
    Path("data/deep/a.txt").write_text("changed")
    assert artifacts.sha256(tree) != before


def test_the_hash_changes_with_a_name(tree):
    before = artifacts.sha256(tree)
    Path("data/b.txt").rename("data/c.txt")
    assert artifacts.sha256(tree) != before


def test_the_hash_does_not_change_with_times_and_permissions(tree):
    before = artifacts.sha256(tree)
    os.utime("other.txt", (0, 0))
    Path("other.txt").chmod(0o600)
    assert artifacts.sha256(tree) == before
