"""Groups that texts name: of HateXplain, Jigsaw and Bias in Bios, in invented rows laid out like theirs."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.prepare.formats import communities, majority
from tests.stages.prepare.conftest import Project

IDENTITIES = ["female", "muslim"]
JIGSAW = "comment_text,toxicity,female,muslim\n"


def post(number: int, labels: str, *targets: list[str]) -> dict[str, Any]:
    full = {"h": "hatespeech", "o": "offensive", "n": "normal"}
    given = zip(labels, targets or [["None"]] * 3, strict=True)
    annotators = [
        {"label": full[label], "annotator_id": place, "target": target} for place, (label, target) in enumerate(given)
    ]
    return {"post_id": f"p{number}", "annotators": annotators, "rationales": [], "post_tokens": ["post", str(number)]}


def declare_hatexplain(project: Project, posts: list[dict[str, Any]], **divisions: list[str]) -> None:
    project.file("dataset.json", json.dumps({each["post_id"]: each for each in posts}))
    project.file("divisions.json", json.dumps(divisions))
    project.declare(
        format="hatexplain",
        metadata="texts/divisions.json",
        files={split: [{"path": "texts/dataset.json"}] for split in ("train", "valid", "test")},
        columns={"text": "text", "label": "label", "groups": "groups"},
        splits=None,
    )


def test_posts_of_hatexplain_are_split_as_it_says_with_majority_and_communities(project: Project) -> None:
    posts = [
        post(0, "hho", ["Women", "Islam"], ["Islam"], ["Other"]),
        post(1, "nno", ["None"], ["None"], ["Women"]),
        post(2, "oon", ["Women"], ["Women"], ["Other"]),
        post(3, "nnn", ["Other"], ["Other"], ["Other"]),
        post(4, "hhh", ["Islam", "Women"], ["Women", "Islam"], ["Islam"]),
    ]
    declare_hatexplain(project, posts, train=["p4", "p0", "p1", "p2"], val=["p3"], test=["p2", "p3"])
    project.declare(when_unseen="keep")
    # A post in two splits stays in test.
    assert "split `valid` is left with no rows" in project.refused()
    declare_hatexplain(project, [*posts, post(5, "non")], train=["p4", "p0", "p1"], val=["p5"], test=["p2", "p3"])
    tables = project.prepared()
    found = {split: table[["text", "label", "groups"]].to_numpy().tolist() for split, table in tables.items()}
    assert [[text, label, list(groups)] for text, label, groups in found["train"]] == [
        ["post 4", "hatespeech", ["Islam", "Women"]],
        ["post 0", "hatespeech", ["Islam"]],
        ["post 1", "normal", []],
    ]
    assert [[text, label, list(groups)] for text, label, groups in found["test"]] == [
        ["post 2", "offensive", ["Women"]],
        ["post 3", "normal", []],
    ]
    card = project.card()
    assert card["groups"] == {"train": {"Islam": 2, "Women": 1}, "valid": {}, "test": {"Women": 1}}
    assert card["source"]["metadata"]["path"] == "texts/divisions.json"
    assert "rows_without_shares_of_groups" not in card


def test_a_post_without_a_majority_is_counted_where_it_is_dropped(project: Project) -> None:
    posts = [post(0, "hhh"), post(1, "hon"), post(2, "nnn"), post(3, "nnn")]
    declare_hatexplain(project, posts, train=["p0", "p1"], val=["p2"], test=["p3"])
    project.declare(when_unseen="keep")
    assert "column `label`: label missing in data row 2 (1 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert len(project.prepared()["train"]) == 1
    assert project.card()["dropped"]["missing"] == {"train": {"label missing": 1}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("divisions.json", "{", "texts/divisions.json: not laid out like HateXplain's splits (Expecting property"),
        ("divisions.json", '{"train": [], "val": []}', "not laid out like HateXplain's splits ('test'); give post_id_"),
        ("dataset.json", "[", "texts/dataset.json: not JSON (Expecting value"),
        ("dataset.json", "{}", "texts/dataset.json: post 'p0' is not laid out like HateXplain's ('p0'); give dataset"),
        (
            "dataset.json",
            json.dumps({"p0": {"post_tokens": ["a"], "annotators": [{"label": "rude", "target": []}]}}),
            "post 'p0' is not laid out like HateXplain's (label 'rude', and allowed are hatespeech, offensive, normal)",
        ),
        ("dataset.json", json.dumps({"p0": {"post_tokens": 3, "annotators": []}}), "post 'p0' is not laid out like"),
    ],
    ids=["broken-splits", "no-test", "broken", "absent", "other-label", "no-tokens"],
)
def test_files_that_are_none_of_hatexplain_are_refused(project: Project, name: str, content: str, message: str) -> None:
    declare_hatexplain(project, [post(0, "hhh"), post(1, "nnn")], train=["p0"], val=["p1"], test=["p1"])
    project.file(name, content)
    assert message in project.refused()


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        ([["Women", "Caucasian"], ["Caucasian"], ["Women"]], ["Caucasian", "Women"]),
        ([["Islam"], ["Other"], ["None"]], []),
        ([["African", "Islam"], ["Islam", "Jewish"], ["African", "Islam", "Jewish"]], ["African", "Islam", "Jewish"]),
        ([["None", "Other"], ["None", "Other"], ["Asian"]], []),
        ([], []),
    ],
)
def test_a_community_is_one_that_is_named_more_than_once(targets: list[list[str]], named: list[str]) -> None:
    assert communities(targets) == named


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["hatespeech", "hatespeech", "normal"], "hatespeech"),
        (["offensive", "normal", "offensive"], "offensive"),
        (["normal", "hatespeech", "normal"], "normal"),
        # Two of three call it toxic, yet not in one word.
        (["hatespeech", "offensive", "normal"], None),
    ],
)
def test_the_majority_is_for_one_label(labels: list[str], found: str | None) -> None:
    assert majority(labels) == found


def declare_jigsaw(project: Project, *rows: str) -> None:
    project.file("all.csv", JIGSAW + "".join(f"{row}\n" for row in rows))
    project.declare(
        files={"test": [{"path": "texts/all.csv"}]},
        columns={"text": "comment_text", "label": "toxicity", "groups": IDENTITIES},
        shares={"at_least": 0.5, "label": "toxic", "other": "normal"},
        splits=None,
    )


def test_shares_of_jigsaw_come_to_labels_and_groups(project: Project) -> None:
    declare_jigsaw(project, "one,0.5,0.5,1.0", "two,0.49,0.49,0", "three,1,,", "four,0,,0.8")
    assert project.run() == (0, "")
    table = pd.read_parquet("data/prepared/mine/test.parquet")
    assert list(table.columns) == ["example_id", "text", "label", "groups"]
    rows = [[text, label, list(groups)] for text, label, groups in table[["text", "label", "groups"]].to_numpy()]
    assert rows == [
        ["one", "toxic", ["female", "muslim"]],
        ["two", "normal", []],
        ["three", "toxic", []],
        ["four", "normal", ["muslim"]],
    ]
    card = project.card()
    assert card["groups"] == {"test": {"muslim": 2, "female": 1}}
    # Nobody was asked whom "three" names: counted, and in Jigsaw's background.
    assert card["rows_without_shares_of_groups"] == {"test": 1}


def test_shares_may_be_numbers_of_a_table_with_types(project: Project) -> None:
    columns = {"comment_text": ["one", "two"], "toxicity": [0.9, 0.1], "female": [1.0, None], "muslim": [0, 1]}
    project.file("all.csv", "")
    pd.DataFrame(columns).to_parquet("texts/all.parquet")
    declare_jigsaw(project)
    project.declare(format="parquet", files={"test": [{"path": "texts/all.parquet"}]})
    assert project.run() == (0, "")
    table = pd.read_parquet("data/prepared/mine/test.parquet")
    assert table["label"].tolist() == ["toxic", "normal"]
    assert [list(groups) for groups in table["groups"]] == [["female"], ["muslim"]]


def test_a_label_without_a_share_is_missing(project: Project) -> None:
    declare_jigsaw(project, "one,0.5,0,0", "two,,0,0")
    assert "column `toxicity`: label missing in data row 2 (1 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert project.run() == (0, "")
    assert project.card()["dropped"]["missing"] == {"test": {"label missing": 1}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("two,often,0,0", "column `toxicity`: data row 2 holds 'often'; label with `shares` must be a number from 0"),
        ("two,0,0,1.5", "column `muslim`: data row 2 holds '1.5'; groups with `shares` must be a number from 0 to 1"),
        ("two,0,-0.1,0", "column `female`: data row 2 holds '-0.1'"),
    ],
)
def test_what_is_no_share_is_refused(project: Project, row: str, message: str) -> None:
    declare_jigsaw(project, "one,0.5,0,0", row)
    assert message in project.refused()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": None}, "`groups` with a column each are shares: give `shares`, or name one column of lists"),
        ({"labels": {"0": "a"}}, "`labels` and `shares` both give labels: keep one"),
        ({"columns": {"text": "comment_text", "label": "toxicity", "groups": ["female"] * 2}}, "a column twice"),
        ({"columns": {"text": "comment_text", "label": "toxicity", "groups": ["male"]}}, "has no column `male`"),
        ({"columns": {"text": "comment_text", "label": "toxicity", "groups": []}}, "columns.groups"),
        ({"shares": {"at_least": 0, "label": "toxic", "other": "normal"}}, "shares.at_least: 0 is not allowed"),
        ({"group_names": {"0": "male"}}, "`group_names` are of the column `group`, of which `columns` names none"),
    ],
)
def test_settings_of_groups_that_do_not_fit_are_refused(
    project: Project, changes: dict[str, Any], message: str
) -> None:
    declare_jigsaw(project, "one,0.5,0,0")
    project.declare(**changes)
    assert message in project.refused()


def test_groups_are_a_list_or_split_at_white_space(project: Project) -> None:
    lines = [{"text": f"text {row}", "label": "a", "groups": groups} for row, groups in enumerate([["b c", "d"], []])]
    project.file("some.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    columns = {"text": "text", "label": "label", "groups": "groups"}
    project.declare(format="jsonl", files={"test": [{"path": "texts/some.jsonl"}]}, columns=columns, splits=None)
    assert project.run() == (0, "")
    found = pd.read_parquet("data/prepared/mine/test.parquet")["groups"]
    assert list(map(list, found)) == [["b c", "d"], []]
    project.file("some.csv", "text,label,groups\none,a,b d\ntwo,a,\n")
    project.declare(format="csv", files={"test": [{"path": "texts/some.csv"}]})
    assert project.run() == (0, "")
    found = pd.read_parquet("data/prepared/mine/test.parquet")["groups"]
    assert list(map(list, found)) == [["b", "d"], []]


def test_groups_of_another_shape_are_refused(project: Project) -> None:
    project.file("some.jsonl", '{"text": "one", "label": "a", "groups": 3}\n{"text": "two", "label": "a"}\n')
    columns = {"text": "text", "label": "label", "groups": "groups"}
    project.declare(format="jsonl", files={"test": [{"path": "texts/some.jsonl"}]}, columns=columns, splits=None)
    assert "column `groups`: groups missing in data row 2 (1 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert "column `groups`: data row 1 holds a int; groups must be a list, or text split" in project.refused()


def declare_biographies(project: Project) -> None:
    """Declare a local folder with the columns and the splits that the hub has of Bias in Bios."""
    Path("bios/data").mkdir(parents=True)
    for place, (split, size) in enumerate((("train", 12), ("test", 6), ("dev", 3))):
        rows = range(100 * place, 100 * place + size)
        columns = {"hard_text": [f"biography {row}" for row in rows], "profession": [21 + row % 2 for row in rows]}
        pd.DataFrame(columns | {"gender": [row // 2 % 2 for row in rows]}).to_parquet(f"bios/data/{split}.parquet")
    splits = "".join(f"  - {{split: {split}, path: data/{split}.parquet}}\n" for split in ("train", "test", "dev"))
    Path("bios/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n")
    project.settings = {
        "source": "hub",
        "watch": "bios",
        "repository": "bios",
        "files": {"train": "train", "valid": "dev", "test": "test"},
        "columns": {"text": "hard_text", "label": "profession", "group": "gender"},
        "labels": {"21": "professor", "22": "psychologist"},
        "group_names": {"0": "male", "1": "female"},
        "seed": 0,
        "licence": "theirs",
    }


def test_numbers_of_professions_and_genders_become_names(project: Project) -> None:
    declare_biographies(project)
    tables = project.prepared()
    assert {split: len(table) for split, table in tables.items()} == {"train": 12, "valid": 3, "test": 6}
    assert tables["test"]["label"].tolist() == ["professor", "psychologist"] * 3
    assert tables["test"]["group"].tolist() == ["male", "male", "female", "female", "male", "male"]


def test_a_group_without_a_name_is_missing(project: Project) -> None:
    declare_biographies(project)
    project.declare(group_names={"0": "male"})
    assert "bios, split train: column `gender`: group '1' not listed in data row 3 (6 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert len(project.prepared()["train"]) == 6
    assert project.card()["dropped"]["missing"]["train"] == {"group not listed": 6}
