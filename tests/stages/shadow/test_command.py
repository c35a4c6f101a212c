from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture
def shadowed(study):
    study.parameters["toy"]["shadow"] = {
        "grid": {"variant": ["none", "dpsgd", "control"]},
        "base": {"shadows": 8},
        "variant": {"none": {}, "dpsgd": {}, "control": {}},
    }
    return study


def test_a_cell_writes_signals_and_metrics_and_nothing_else(shadowed):
    shadowed.write_parameters()
    before = set(shadowed.files())
    shadowed.done("shadow", "none")
    assert set(shadowed.files()) - before == {
        "data/shadows/toy/none/about.json",
        "data/shadows/toy/none/signals.parquet",
        "reports/metrics/toy/none/shadow.json",
    }


def test_every_model_speaks_of_every_example_and_saw_as_many_as_there_are_members(shadowed):
    shadowed.done("shadow", "none")
    table = pd.read_parquet("data/shadows/toy/none/signals.parquet")
    assert list(table.columns) == ["shadow", "example_id", "member", "label_log_probability", "label_logit"]
    assert table.groupby("shadow").size().tolist() == [400] * 8
    assert table.groupby("shadow")["member"].sum().tolist() == [160] * 8
    p = np.exp(table["label_log_probability"])
    np.testing.assert_allclose(table["label_logit"], np.log(p / (1 - p)), atol=1e-6)


def test_what_a_model_saw_it_knows_better(shadowed):
    shadowed.parameters["toy"]["train"]["base"]["epochs"] = 100
    shadowed.done("shadow", "none")
    table = pd.read_parquet("data/shadows/toy/none/signals.parquet")
    assert all(roc_auc_score(rows["member"], rows["label_logit"]) > 0.6 for _, rows in table.groupby("shadow"))


def test_no_two_models_are_alike(shadowed):
    shadowed.done("shadow", "none")
    wide = pd.read_parquet("data/shadows/toy/none/signals.parquet").pivot(
        index="example_id", columns="shadow", values="label_logit"
    )
    assert (wide.corr().to_numpy()[~np.eye(8, dtype=bool)] < 0.9999).all()


def test_each_model_is_measured_on_what_it_did_not_see(shadowed):
    content = shadowed.done("shadow", "none")
    assert content["about"]["role"] == "shadow"
    assert list(content["metrics"]) == ["held_out/accuracy"]
    assert {entry["n"] for entry in content["metrics"]["held_out/accuracy"].values()} == {240}
    assert len(content["metrics"]["held_out/accuracy"]) == 8


@pytest.mark.parametrize("cell", ["none", "dpsgd"])
def test_two_runs_are_byte_identical(shadowed, cell):
    shadowed.done("shadow", cell)
    first = shadowed.files()
    shadowed.done("shadow", cell)
    assert shadowed.files() == first


def test_another_seed_deals_and_trains_otherwise(shadowed):
    shadowed.done("shadow", "none")
    first = pd.read_parquet("data/shadows/toy/none/signals.parquet")
    shadowed.change("shadow", {"seed": 1})
    shadowed.done("shadow", "none")
    second = pd.read_parquet("data/shadows/toy/none/signals.parquet")
    assert (first["member"] != second["member"]).any()


@pytest.mark.parametrize(
    ("cell", "changes", "message"),
    [
        ("control", {}, "shadow models are of cells that train on the members, not on `reserve`; take `control` out"),
        (
            "none",
            {"shadows": 2},
            "toy.shadow.base.shadows: 2 is not allowed; input should be greater than or equal to 8",
        ),
        ("none", {"epochs": 3}, "toy.shadow.base.epochs: no such setting; allowed: dataset, model, partition, seed"),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(shadowed, cell, changes, message):
    shadowed.change("shadow", changes)
    assert message in shadowed.refused("shadow", cell)
    assert not Path("data/shadows").exists()


def test_another_model_than_that_of_the_attacked_cell_is_refused(shadowed):
    toy = shadowed.parameters["toy"]
    del toy["model"]
    toy["train"]["variant"]["none"]["model"] = "small"
    toy["shadow"]["variant"]["none"]["model"] = "mean"
    message = "toy.shadow.variant.none.model: the cell of train has `small`, not `mean`; name `small` here"
    assert message in shadowed.refused("shadow", "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canaries": 5}, "canaries: shadow models see no canaries"),
        (
            {"associations": {"label": {"dose": 0.5, "first": {"labels": ["ash"]}, "second": {"labels": ["birch"]}}}},
            "associations: shadow models see texts as they are",
        ),
        (
            {"status": "toy/control", "sensitivity_penalty": 0.0},
            "status: there is no status model of a shadow model's seed",
        ),
    ],
)
def test_cells_that_shadow_models_cannot_repeat_are_refused(shadowed, changes, message):
    shadowed.parameters["toy"]["train"]["base"] |= changes
    assert f"params.yaml: toy.train.base.{message}" in shadowed.refused("shadow", "none")
