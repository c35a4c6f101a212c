"""What the prepared tables and their card hold, on small files of a user's own."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.prepare.duplicates import fingerprint, remove_duplicates
from stages.prepare.splitting import draw_splits, limit_rows
from tests.stages.prepare.conftest import Project


def test_formats_agree(project: Project, rows: pd.DataFrame) -> None:
    """The same rows as CSV, TSV, JSONL and parquet give the same tables; whole numbers may be 1, 1.0 or "1"."""
    rows = rows.assign(label=[0, 1] * 10, text=[f'He said "{i}",\n\u2028 twice é' for i in range(20)], who="007")
    Path("texts").mkdir()
    rows.to_csv("texts/train.csv", index=False)
    rows.assign(label=rows["label"].astype(float)).to_csv("texts/train.tsv", index=False, sep="\t")
    rows.to_json("texts/train.jsonl", orient="records", lines=True, force_ascii=False)
    rows.assign(label=rows["label"].astype(float)).to_parquet("texts/train.parquet")
    tables = {}
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        project.declare(
            format=kind,
            files={"train": [{"path": f"texts/train.{kind}"}]},
            columns={"text": "text", "label": "label", "author": "who"},
        )
        tables[kind] = project.prepared()
    for split, expected in tables["csv"].items():
        assert set(expected["label"]) == {"0", "1"}
        assert set(expected["author"]) == {"007"}
        for kind in ("tsv", "jsonl", "parquet"):
            pd.testing.assert_frame_equal(tables[kind][split], expected)


def test_one_row_is_as_documented(project: Project) -> None:
    project.file(
        "train.jsonl",
        "".join(
            json.dumps(
                {
                    "t": f"  One\r\n{i}\u00a0two ",
                    "y": True,
                    "w": ["One", "two"],
                    "s": "O B",
                    "g": 1,
                    "a": "Ann ",
                    "d": 1994,
                }
            )
            + "\n"
            for i in range(10)
        ),
    )
    columns = {"text": "t", "label": "y", "tokens": "w", "tags": "s", "group": "g", "author": "a", "time": "d"}
    project.declare(format="jsonl", files={"train": [{"path": "texts/train.jsonl"}]}, columns=columns)
    row = pd.concat(project.prepared().values()).sort_values("text").iloc[0].to_dict()
    row["tokens"], row["tags"] = list(row["tokens"]), list(row["tags"])
    assert row == {
        "example_id": hashlib.sha256(b"one 0 two").hexdigest()[:16],
        "text": "One 0 two",
        "label": "True",
        "tokens": ["One", "two"],
        "tags": ["O", "B"],
        "group": "1",
        "author": "Ann",
        "time": "1994",
    }


def test_slots(project: Project) -> None:
    project.file("train.txt", "".join(f"at:O {i}:{i}:B-time <=> flight;fare\r\n" for i in range(10)))
    columns = {"text": "text", "label": "label", "tokens": "tokens", "tags": "tags"}
    project.declare(format="slots", files={"train": [{"path": "texts/train.txt"}]}, columns=columns)
    train = project.prepared()["train"].iloc[0]
    assert train["text"] == "at 0:0"
    assert train["label"] == "flight"
    assert [list(train["tokens"]), list(train["tags"])] == [["at", "0:0"], ["O", "B-time"]]


def test_orange(project: Project) -> None:
    header = "topic\twords\nd\tstring\nclass\t\n\n"
    project.file("train.tab", header + "".join(f"a\tsentence {i}\n" for i in range(10)))
    columns = {"text": "words", "label": "topic"}
    project.declare(format="orange", files={"train": [{"path": "texts/train.tab"}]}, columns=columns)
    assert sorted(pd.concat(project.prepared().values())["text"]) == [f"sentence {i}" for i in range(10)]


def test_spreadsheet_export(project: Project) -> None:
    """A byte order mark is no part of the first column's name, and long fields are no error."""
    project.file("train.csv", "\ufefftext,label\r\n" + "".join(f"{'x' * 200_000}{i},a\r\n" for i in range(10)))
    assert len(pd.concat(project.prepared().values())) == 10


def test_numbers_in_csv_stay_as_written(project: Project) -> None:
    project.file("train.csv", "text,label,who\n" + "".join(f"0{i},{i % 2}.0,01.0\n" for i in range(10)))
    project.declare(columns={"text": "text", "label": "label", "author": "who"})
    everything = pd.concat(project.prepared().values())
    assert sorted(everything["text"]) == [f"0{i}" for i in range(10)]
    assert set(everything["label"]) == {"0", "1"}
    assert set(everything["author"]) == {"01.0"}


def test_groups_missing_and_listed_labels(project: Project) -> None:
    project.file("a.csv", "text,label\n" + "".join(f"a{i},{i % 2}\n" for i in range(10)) + "blank,\njunk,what?\n,1\n")
    project.file("b.csv", "label,text\r\n" + "".join(f"{i % 2}.0,b{i}\r\n" for i in range(10)) + "2,unlisted\r\n")
    project.declare(
        files={"train": [{"path": "texts/a.csv", "group": "A"}, {"path": "texts/b.csv", "group": "B"}]},
        labels={"0": "no", "1": "yes"},
        when_missing="drop",
    )
    everything = pd.concat(project.prepared().values())
    assert set(zip(everything["text"].str[0], everything["group"], strict=True)) == {("a", "A"), ("b", "B")}
    assert everything["label"].value_counts().to_dict() == {"no": 10, "yes": 10}
    assert project.card()["dropped"]["missing"] == {
        "train": {"text missing": 1, "label missing": 1, "label not listed": 2}
    }


def test_duplicates_by_hand(project: Project) -> None:
    """Eight rows of four texts: each stays where it counts most, and the card says what went."""
    project.file("train.csv", "text,label\nAlpha  one,a\nbeta,b\nBETA,a\ngamma,a\ndelta,b\n")
    project.file("valid.csv", "text,label\nBeta,b\n")
    project.file("test.csv", "text,label\nalpha one,b\nAlpha One,a\n")
    project.declare(files={s: [{"path": f"texts/{s}.csv"}] for s in ("train", "valid", "test")}, splits=None)
    tables = project.prepared()
    assert {split: list(table["text"]) for split, table in tables.items()} == {
        "train": ["gamma", "delta"],
        "valid": ["Beta"],
        "test": ["alpha one"],
    }
    card = project.card()
    assert card["dropped"]["duplicates"] == {
        "train": {"rows": 3, "rows_with_another_label": 2},  # Alpha one is b in test, BETA is b in valid
        "valid": {"rows": 0, "rows_with_another_label": 0},
        "test": {"rows": 1, "rows_with_another_label": 1},
    }
    assert card["rows_read"] == {"train": 5, "valid": 1, "test": 2}
    assert card["rows"] == {"train": 2, "valid": 1, "test": 1}
    assert card["labels"] == {"train": {"a": 1, "b": 1}, "valid": {"b": 1}, "test": {"b": 1}}


def test_unseen_labels_are_dropped_and_counted(project: Project, rows: pd.DataFrame) -> None:
    Path("texts").mkdir()
    rows.to_csv("texts/train.csv", index=False)
    project.file("test.csv", "text,label\nnew one,odd\nother one,zebra\n")
    files = {"train": [{"path": "texts/train.csv"}], "test": [{"path": "texts/test.csv"}]}
    project.declare(files=files, splits={"valid": 0.2}, when_unseen="drop")
    assert list(project.prepared()["test"]["text"]) == ["new one"]
    assert project.card()["dropped"]["labels_unseen_in_train"] == {"test": {"zebra": 1}}


def test_limit(project: Project, rows: pd.DataFrame) -> None:
    Path("texts").mkdir()
    rows.to_csv("texts/train.csv", index=False)
    everything = project.prepared()
    project.declare(limit={"train": 6, "test": 2})
    limited = project.prepared()
    assert {split: len(table) for split, table in limited.items()} == {"train": 6, "valid": 4, "test": 2}
    assert project.card()["dropped"]["beyond_limit"] == {"train": 6, "test": 2}
    for split, table in limited.items():
        assert set(table["text"]) <= set(everything[split]["text"])


def test_same_seed_same_bytes_other_seed_other_split(project: Project, rows: pd.DataFrame) -> None:
    Path("texts").mkdir()
    rows.to_csv("texts/train.csv", index=False)
    first = project.prepared()
    written = project.bytes()
    project.prepared()
    assert project.bytes() == written
    project.declare(seed=1)
    other = project.prepared()
    assert {split: len(table) for split, table in other.items()} == {"train": 12, "valid": 4, "test": 4}
    assert set(other["test"]["text"]) != set(first["test"]["text"])


def test_ids_do_not_depend_on_the_order_of_rows(project: Project, rows: pd.DataFrame) -> None:
    Path("texts").mkdir()
    named = []
    for table in (rows, rows[::-1]):
        table.to_csv("texts/train.csv", index=False)
        everything = pd.concat(project.prepared().values())
        named.append(dict(zip(everything["text"], everything["example_id"], strict=True)))
    assert named[0] == named[1]


def test_card_names_its_sources_for_every_machine(project: Project, tmp_path: Path, rows: pd.DataFrame) -> None:
    Path("texts").mkdir()
    unix = rows.to_csv(index=False)
    project.declare(watch=str(tmp_path / "texts"), files={"train": [{"path": str(tmp_path / "texts/train.csv")}]})
    files = []
    for content in (unix, unix.replace("\n", "\r\n")):
        project.file("train.csv", content)
        project.prepared()
        assert str(tmp_path) not in Path("data/prepared/mine/card.json").read_text()
        files += project.card()["source"]["files"]
    digest = hashlib.sha256(unix.encode()).hexdigest()
    assert [(file["path"], file["sha256"], file["carriage_returns_stripped_before_hashing"]) for file in files] == [
        ("texts/train.csv", digest, False),
        ("texts/train.csv", digest, True),
    ]


Texts = st.lists(st.tuples(st.sampled_from("abcdefghABCD"), st.sampled_from("xyz")), min_size=1, max_size=30)


@given(train=Texts, test=Texts)
def test_no_text_twice_and_none_lost(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> None:
    frames = {
        "train": pd.DataFrame(train, columns=["text", "label"]),
        "test": pd.DataFrame(test, columns=["text", "label"]),
    }
    kept, counts = remove_duplicates(frames)
    names = [name for table in kept.values() for name in table["example_id"]]
    assert len(names) == len(set(names))
    assert set(names) == {fingerprint(text)[:16] for text, _ in train + test}
    assert {fingerprint(text)[:16] for text, _ in test} == set(kept["test"]["example_id"])
    assert {split: len(frames[split]) - len(kept[split]) for split in frames} == {
        s: n["rows"] for s, n in counts.items()
    }


@given(labels=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_drawn_splits_share_out_train_and_leave_it_every_label(labels: list[str], seed: int) -> None:
    rows = pd.DataFrame({"text": [f"sentence {i}" for i in range(len(labels))], "label": labels})
    try:
        frames = draw_splits(rows, {"valid": 0.2, "test": 0.3}, seed, "here")
    except InputError:
        assert round(0.2 * len(labels)) + round(0.3 * len(labels)) > len(labels) - len(set(labels))
        return
    assert sorted(index for table in frames.values() for index in table.index) == list(rows.index)
    assert set(frames["train"]["label"]) == set(labels)
    assert [len(frames["valid"]), len(frames["test"])] == [round(0.2 * len(labels)), round(0.3 * len(labels))]


@pytest.mark.parametrize("limit", [None, 100])
def test_no_limit_keeps_all(rows: pd.DataFrame, limit: int | None) -> None:
    assert limit_rows(rows, "train", limit, seed=0) is rows


def test_larger_limit_adds_rows(rows: pd.DataFrame) -> None:
    small, large = (set(limit_rows(rows, "train", limit, seed=0).index) for limit in (5, 9))
    assert len(small) == 5
    assert small < large
