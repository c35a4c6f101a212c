import shutil
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture
def fitted(study):
    """A study whose models were trained: on the members, and for the control on the reserve."""
    study.done("train", "none")
    study.done("train", "control")
    return study


def test_an_attack_writes_scores_curve_and_metrics_and_nothing_else(fitted):
    before = set(fitted.files())
    fitted.done("attack", "none")
    assert set(fitted.files()) - before == {
        "data/attacks/toy/none/scores.parquet",
        "reports/curves/toy/none/roc.csv",
        "reports/metrics/toy/none/attack.json",
    }


def test_every_member_and_nonmember_is_scored_once_and_the_reserve_is_not(fitted):
    fitted.done("attack", "none")
    scores = pd.read_parquet("data/attacks/toy/none/scores.parquet")
    held = pd.read_parquet("data/partitions/halves/clients.parquet").query("seed == 0 and split != 'reserve'")
    assert list(scores.columns) == ["seed", "example_id", "member", "loss"]
    truth = dict(zip(held["example_id"], held["split"] == "member", strict=True))
    assert dict(zip(scores["example_id"], scores["member"], strict=True)) == truth
    assert len(scores) == len(held)


def test_the_area_is_that_of_the_scores_with_n_and_interval(fitted):
    found = fitted.done("attack", "none")["metrics"]["pool/auc"]["0"]
    scores = pd.read_parquet("data/attacks/toy/none/scores.parquet")
    assert found["value"] == pytest.approx(roc_auc_score(scores["member"], scores["loss"]))
    assert found["n"] == 320
    assert found["ci_low"] < found["value"] < found["ci_high"]


def test_the_rate_at_1_percent_is_over_the_members_and_at_0_1_percent_there_is_none(fitted):
    metrics = fitted.done("attack", "none")["metrics"]
    assert metrics["pool/true_positive_rate_at_1_percent"]["0"]["n"] == 160
    assert "pool/true_positive_rate_at_0_1_percent" not in metrics


def test_members_leak_from_a_model_that_learnt_them_by_heart(fitted):
    fitted.parameters["toy"]["train"]["base"]["epochs"] = 150
    fitted.done("train", "none")
    assert fitted.done("attack", "none")["metrics"]["pool/auc"]["0"]["value"] > 0.63


def test_nothing_leaks_from_the_control_however_long_it_learnt(fitted):
    fitted.parameters["toy"]["train"]["base"]["epochs"] = 150
    fitted.done("train", "control")
    # One half, and four standard errors to both sides.
    assert 0.37 < fitted.done("attack", "control")["metrics"]["pool/auc"]["0"]["value"] < 0.63


def test_the_metrics_say_which_model_was_attacked(fitted):
    about = fitted.done("attack", "control")["about"]
    trained = fitted.metrics("train", "control")["about"]
    changed = {"verb": "attack", "command": "python -m stages.attack --study toy --cell control"}
    assert about["inputs_sha256"] != trained["inputs_sha256"]
    assert about | {"inputs_sha256": ""} == trained | changed | {"inputs_sha256": ""}
    assert about["role"] == "control"


def test_two_runs_are_byte_identical(fitted):
    fitted.done("attack", "none")
    first = fitted.files()
    fitted.done("attack", "none")
    assert fitted.files() == first


def test_the_hash_of_the_inputs_follows_the_model(fitted):
    before = fitted.done("attack", "none")["about"]["inputs_sha256"]
    fitted.parameters["toy"]["train"]["base"]["epochs"] = 1
    fitted.done("train", "none")
    assert fitted.done("attack", "none")["about"]["inputs_sha256"] != before


def test_the_curve_has_the_points_of_every_seed(fitted):
    shutil.copytree("data/models/toy/none/0", "data/models/toy/none/1")
    fitted.parameters["toy"]["seeds"] = [0, 1]
    fitted.done("attack", "none")
    curve = pd.read_csv("reports/curves/toy/none/roc.csv")
    assert list(curve.columns) == ["seed", "method", "false_positive_rate", "true_positive_rate"]
    assert curve["seed"].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1]}, "data/models/toy/none/1: no model of this seed; add 1 to params.yaml: toy.seeds"),
        ({"methods": ["lyra"]}, "toy.attack.base.methods.0: 'lyra' is not allowed; input should be 'loss', 'lira'"),
        ({"methods": []}, "toy.attack.base.methods: [] is not allowed; list should have at least 1 item"),
        ({"methods": ["loss", "loss"]}, "each method is listed once"),
        ({"methods": ["lira"]}, "method lira needs `shadows`, a cell of the study's shadow grid"),
        (
            {"methods": ["lira"], "shadows": "none"},
            "data/shadows/toy/none/signals.parquet: no such file; run `dvc repro`",
        ),
        ({"partition": "thirds"}, "data/partitions/thirds/clients.parquet: no such file"),
        (
            {"epochs": 1},
            "toy.attack.base.epochs: no such setting; allowed: dataset, methods, partition, seeds, shadows",
        ),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(fitted, changes, message):
    fitted.change("attack", changes)
    assert message in fitted.refused("attack", "none")
    assert not Path("data/attacks").exists()


def test_a_cell_that_was_not_fitted_is_refused(study):
    assert "data/models/toy/none/about.json: no such file; run `dvc repro`" in study.refused("attack", "none")


@pytest.fixture
def shadowed(fitted):
    fitted.parameters["toy"]["train"]["base"]["epochs"] = 100
    fitted.parameters["toy"]["shadow"] = {
        "grid": {"variant": ["none"]},
        "base": {"shadows": 8},
        "variant": {"none": {}},
    }
    fitted.done("train", "none")
    fitted.done("shadow", "none")
    fitted.change("attack", {"methods": ["loss", "lira", "rmia_offline"], "shadows": "none"})
    return fitted


def test_shadow_models_find_more_than_the_loss_and_nothing_in_the_control(shadowed):
    found = {name: entry["0"]["value"] for name, entry in shadowed.done("attack", "none")["metrics"].items()}
    assert found["pool/lira_auc"] > found["pool/auc"]
    assert found["pool/rmia_offline_auc"] > found["pool/auc"]
    control = {name: entry["0"]["value"] for name, entry in shadowed.done("attack", "control")["metrics"].items()}
    assert all(0.37 < control[f"pool/{name}"] < 0.63 for name in ("lira_auc", "rmia_offline_auc"))


def test_every_method_has_its_scores_and_its_curve(shadowed):
    shadowed.done("attack", "none")
    scores = pd.read_parquet("data/attacks/toy/none/scores.parquet")
    assert list(scores.columns) == ["seed", "example_id", "member", "loss", "lira", "rmia_offline"]
    curve = pd.read_csv("reports/curves/toy/none/roc.csv")
    assert curve["method"].unique().tolist() == ["loss", "lira", "rmia_offline"]


def test_shadows_of_other_data_are_refused(shadowed):
    path = Path("data/shadows/toy/none/signals.parquet")
    pd.read_parquet(path).query("example_id != 'e1-0'").to_parquet(path)
    assert "is of other examples than the data set has; run `dvc repro`" in shadowed.refused("attack", "none")


def test_shadow_models_of_another_kind_are_refused(shadowed):
    shadowed.parameters["toy"]["train"]["variant"]["small"] = {}
    del shadowed.parameters["toy"]["model"]
    shadowed.parameters["toy"]["train"]["variant"]["none"]["model"] = "small"
    shadowed.done("train", "none")
    message = "`none` has shadow models of `mean`, and this is a `small`; name a cell of the same model"
    assert message in shadowed.refused("attack", "none")
