from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file


@pytest.fixture
def taught(study):
    """A study whose teacher was trained."""
    study.done("train", "none")
    return study


def test_a_cell_writes_its_student_metrics_and_history_and_nothing_else(taught):
    before = set(taught.files())
    taught.done("distill", "small")
    assert set(taught.files()) - before == {
        "data/models/toy/small/about.json",
        "data/models/toy/small/0/config.json",
        "data/models/toy/small/0/history.parquet",
        "data/models/toy/small/0/model.safetensors",
        "data/models/toy/small/0/privacy.json",
        "reports/curves/toy/small/history.csv",
        "reports/metrics/toy/small/distill.json",
    }


def test_the_metrics_say_what_was_measured_on_how_many_examples_and_how_surely(taught):
    content = taught.done("distill", "small")
    about = content["about"]
    assert (about["verb"], about["mechanism"], about["role"], about["model"]) == (
        "distill",
        "distillation",
        "student",
        "small",
    )
    found = content["metrics"]["test/accuracy"]["0"]
    assert found["n"] == 90
    assert found["ci_low"] < found["value"] < found["ci_high"]
    assert len(pd.read_csv("reports/curves/toy/small/history.csv")) == 5


def test_without_the_teacher_the_student_is_the_one_trained_on_labels(taught):
    taught.parameters["toy"]["distill"]["base"]["teacher_weight"] = 0.0
    taught.done("distill", "small")
    taught.parameters["toy"]["model"] = "small"
    taught.parameters["toy"]["train"]["base"]["epochs"] = 5
    taught.done("train", "none")
    student, alone = (load_file(f"data/models/toy/{cell}/0/model.safetensors") for cell in ("small", "none"))
    assert all((student[name] == alone[name]).all() for name in alone)


def test_the_teacher_makes_a_difference(taught):
    name = "data/models/toy/small/0/model.safetensors"
    taught.done("distill", "small")
    with_it = taught.files()[name]
    taught.parameters["toy"]["distill"]["base"]["teacher_weight"] = 0.0
    taught.done("distill", "small")
    assert taught.files()[name] != with_it


def test_the_teacher_stays_as_it_was(taught):
    before = taught.files()
    taught.done("distill", "small")
    after = taught.files()
    assert {name: after[name] for name in before if "/none/" in name} == {
        name: content for name, content in before.items() if "/none/" in name
    }


def test_the_hash_of_the_inputs_follows_the_teacher(taught):
    before = taught.done("distill", "small")["about"]["inputs_sha256"]
    taught.parameters["toy"]["train"]["base"]["epochs"] = 1
    taught.done("train", "none")
    assert taught.done("distill", "small")["about"]["inputs_sha256"] != before


def test_two_runs_are_byte_identical(taught):
    taught.done("distill", "small")
    first = taught.files()
    taught.done("distill", "small")
    assert taught.files() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "toy/absent"}, "data/models/toy/absent: no such file; run `dvc repro`"),
        ({"teacher": "none"}, "params.yaml: toy.distill.base.teacher: 'none' is not allowed"),
        ({"seeds": [1]}, "data/models/toy/none/1: no model of this seed; add 1 to params.yaml: toy.seeds"),
        ({"temperature": 0.0}, "toy.distill.base.temperature: 0.0 is not allowed; input should be greater than 0"),
        ({"teacher_weight": 1.1}, "toy.distill.base.teacher_weight: 1.1 is not allowed"),
        ({"batch_size": 161}, "toy.distill.base.batch_size: 161 is more than the 160 examples"),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(taught, changes, message):
    taught.change("distill", changes)
    assert message in taught.refused("distill", "small")
    assert not Path("data/models/toy/small").exists()


def test_a_teacher_of_other_labels_is_refused(taught):
    for split in ("train", "valid", "test"):
        path = f"data/prepared/trees/{split}.parquet"
        pd.read_parquet(path).replace({"cedar": "oak"}).to_parquet(path)
    assert "toy.distill.base.teacher: toy/none has other labels than the student" in taught.refused("distill", "small")
