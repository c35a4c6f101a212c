"""Questions, the answers that stand in their contexts, and targets: BBQ, SQuAD's layout, and a user's own files."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from stages.prepare import answers
from tests.stages.prepare.conftest import Project

ROLES = {"text": "text", "label": "label", "question": "question", "answers": "answers"}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def bbq(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "category": "Age" if number % 2 else "SES",
        "context_condition": "disambig",
        "context": f"I saw a woman and a man. {number} times the man slept.",
        "question": "Who slept?",
        "ans0": "The man",
        "ans1": "The woman",
        "ans2": "Unknown",
        "answer_info": {"ans0": ["man", "old"], "ans1": ["woman", "young"], "ans2": ["Unknown", "unknown"]},
        "label": 0,
    }
    return row | changes


def test_bbq_keeps_what_its_contexts_answer_and_counts_what_they_word_otherwise(project: Project) -> None:
    rows = [
        *map(bbq, range(10)),
        bbq(10, context="10 men and a woman.", question="Who has no article?"),
        bbq(11, context="Ask the woman. Man 11 slept.", ans0="the MAN "),
        bbq(12, ans0="The person"),
        bbq(13, context_condition="ambig", label=2),
        bbq(14, label=2),
    ]
    project.file("bbq.jsonl", lines(rows))
    files = {"train": [{"path": "texts/bbq.jsonl"}]}
    project.declare(format="bbq", files=files, columns=ROLES, when_missing="drop")
    everything = pd.concat(project.prepared().values())
    assert list(everything.columns) == ["example_id", *ROLES, "answer_start"]
    found = {row.text: (list(row.answers), row.answer_start) for row in everything.itertuples()}
    assert found.pop("Ask the woman. Man 11 slept.") == (["Man"], 15)
    assert len(found) == 10
    # Neither "a woman" nor "the woman" is the man.
    assert set(map(str, found.values())) == {"(['the man'], 33)"}
    assert set(everything["label"]) == {"Age", "SES"}
    assert project.card()["dropped"]["missing"] == {"train": {"answers missing": 2}}
    assert project.card()["rows_read"] == {"train": 13}


@pytest.fixture
def squad(project: Project) -> Project:
    """A folder laid out like rajpurkar/squad, whose validation split has titles of its own."""
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "title": datasets.Value("string"),
            "context": datasets.Value("string"),
            "question": datasets.Value("string"),
            "answers": {
                "text": datasets.List(datasets.Value("string")),
                "answer_start": datasets.List(datasets.Value("int32")),
            },
        }
    )
    folder = Path("squad/data")
    folder.mkdir(parents=True)
    for split, count in (("train", 12), ("validation", 4)):
        rows = [
            {
                "id": f"{split}-{number}",
                "title": f"{split} {number // 4}",
                "context": f"A cat  and\na cat, {split} {number // 2}.",
                "question": f"What is {number % 2}?",
                # The second cat, whose place is moved by the white space before it; and the same again.
                "answers": {"text": ["cat", "a cat", "cat"], "answer_start": [13, 11, 13]},
            }
            for number in range(count)
        ]
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    project.settings = {
        "source": "hub",
        "watch": "squad",
        "repository": "squad",
        "files": {"train": "train", "test": "validation"},
        "columns": {"text": "context", "label": "title", "question": "question", "answers": "answers"},
        "splits": {"valid": 0.2},
        "when_unseen": "keep",
        "seed": 0,
        "licence": "theirs",
    }
    return project


def test_squad_keeps_the_place_of_its_answers_and_all_of_them(squad: Project) -> None:
    tables = squad.prepared()
    assert {split: len(table) for split, table in tables.items()} == {"train": 10, "valid": 2, "test": 4}
    for row in pd.concat(tables.values()).itertuples():
        assert (list(row.answers), row.answer_start) == (["cat", "a cat"], 12)
        assert row.text[row.answer_start :].startswith("cat, ")
    assert set(tables["test"]["label"]) == {"validation 0"}


def test_labels_that_train_lacks_are_an_error_unless_they_are_to_be_kept(squad: Project) -> None:
    squad.declare(when_unseen="error")
    assert "never in train; set `when_unseen: drop`, or `keep` for models that look at no label" in squad.refused()


def test_the_same_rows_as_jsonl_give_the_same_tables(squad: Project) -> None:
    from_hub = squad.prepared()
    files = {}
    for ours, theirs in (("train", "train"), ("test", "validation")):
        table = pd.read_parquet(f"squad/data/{theirs}-00000-of-00001.parquet")
        squad.file(f"{ours}.jsonl", table.to_json(orient="records", lines=True))
        files[ours] = [{"path": f"texts/{ours}.jsonl"}]
    squad.declare(source="file", format="jsonl", watch="texts", repository=None, files=files)
    for split, table in squad.prepared().items():
        pd.testing.assert_frame_equal(table, from_hub[split])


def asked(number: int, question: str, answer: Any = "two") -> dict[str, Any]:
    return {"text": f"one two {number}", "label": "a", "question": question, "answers": answer}


def declare(project: Project, rows: list[dict[str, Any]], **changes: Any) -> None:
    project.file("train.jsonl", lines(rows))
    files = {"train": [{"path": "texts/train.jsonl"}]}
    project.declare(format="jsonl", files=files, columns=ROLES, **changes)


def test_questions_of_one_text_are_kept_in_one_split_and_the_same_question_once(project: Project) -> None:
    rows = [asked(number, question) for number in range(20) for question in ("Who?", "Why?", "who? ")]
    declare(project, rows)
    tables = project.prepared()
    assert {split: len(table) for split, table in tables.items()} == {"train": 24, "valid": 8, "test": 8}
    texts = [set(table["text"]) for table in tables.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 20
    assert pd.concat(tables.values())["example_id"].is_unique
    assert project.card()["dropped"]["duplicates"]["train"]["rows"] == 20


def test_a_text_of_the_test_split_leaves_train_with_all_its_questions(project: Project) -> None:
    declare(project, [asked(number, question) for number in range(10) for question in ("Who?", "Why?")])
    project.file("test.jsonl", lines([asked(0, "How?"), asked(1, "Why?")]))
    files = {"train": [{"path": "texts/train.jsonl"}], "test": [{"path": "texts/test.jsonl"}]}
    project.declare(files=files, splits={"valid": 0.25})
    tables = project.prepared()
    assert {split: len(table) for split, table in tables.items()} == {"train": 12, "valid": 4, "test": 2}
    assert set(tables["test"]["question"]) == {"How?", "Why?"}
    assert project.card()["dropped"]["duplicates"]["train"] == {"rows": 4, "rows_with_another_label": 0}


def test_an_answer_that_is_not_in_its_text_is_refused_or_dropped_and_counted(project: Project) -> None:
    rows = [asked(number, "Who?") for number in range(10)] + [asked(10, "Who?", "three")]
    declare(project, rows)
    expected = "column `answers`: answers ['three'] not in the text in data row 11 (1 in all); mend it, or set"
    assert expected in project.refused()
    project.declare(when_missing="drop")
    project.prepared()
    assert project.card()["dropped"]["missing"] == {"train": {"answers not in the text": 1}}


def test_a_place_where_the_answer_is_not_is_refused(project: Project) -> None:
    wrong = {"text": ["two"], "answer_start": [3]}
    declare(project, [asked(0, "Who?"), asked(1, "Who?", wrong)])
    assert "answers ['two'] not in the text in data row 2" in project.refused()


@pytest.mark.parametrize(
    "value", [3, ["a", 3], {"text": "two"}, {"answer_start": [0]}, {"text": ["two"], "answer_start": [0, 1]}], ids=str
)
def test_answers_of_another_shape_are_refused(project: Project, value: Any) -> None:
    declare(project, [asked(0, "Who?"), asked(1, "Who?", value)])
    assert f"data row 2 holds a {type(value).__name__}; answers must be {answers.ALLOWED}" in project.refused()


@pytest.mark.parametrize("value", [None, "", [], {"text": [], "answer_start": []}], ids=str)
def test_a_question_without_an_answer_is_missing_one(project: Project, value: Any) -> None:
    declare(project, [*(asked(number, "Who?") for number in range(10)), asked(10, "Who?", value)], when_missing="drop")
    project.prepared()
    assert project.card()["dropped"]["missing"] == {"train": {"answers missing": 1}}


@pytest.mark.parametrize("gone", ["question", "answers"])
def test_questions_and_answers_are_declared_together(project: Project, gone: str) -> None:
    columns = {role: column for role, column in ROLES.items() if role != gone}
    project.declare(columns=columns)
    assert "`question` and `answers` belong together: declare both" in project.refused()
