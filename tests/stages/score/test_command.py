from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def fitted(study):
    study.done("train", "none")
    return study


@pytest.fixture
def predictions(fitted):
    fitted.done("score", "none")
    return pd.read_parquet("data/scores/toy/none/predictions.parquet")


def test_scoring_writes_predictions_and_metrics_and_nothing_else(fitted):
    before = set(fitted.files())
    fitted.done("score", "none")
    assert set(fitted.files()) - before == {
        "data/scores/toy/none/predictions.parquet",
        "reports/metrics/toy/none/score.json",
    }


def test_every_test_text_is_predicted_once(predictions):
    test = pd.read_parquet("data/prepared/trees/test.parquet")
    assert predictions["example_id"].tolist() == test["example_id"].tolist()
    assert predictions["label"].tolist() == test["label"].tolist()
    assert predictions["group"].tolist() == test["group"].tolist()


def test_the_metrics_are_those_of_the_predictions(fitted, predictions):
    metrics = {key: by_seed["0"] for key, by_seed in fitted.metrics("score", "none")["metrics"].items()}
    north = predictions.query("group == 'north' and label == 'ash'")
    assert metrics["test/true_positive_rate/north"]["n"] == len(north)
    assert metrics["test/true_positive_rate/north"]["value"] == (north["predicted"] == "ash").mean()
    others = predictions.query("group == 'south' and label != 'ash'")
    assert metrics["test/false_positive_rate/south"]["value"] == (others["predicted"] == "ash").mean()


def test_flips_are_counted_over_the_texts_that_a_swap_changed(fitted, predictions):
    test = pd.read_parquet("data/prepared/trees/test.parquet")
    holds = [bool({"ba", "fa", "be", "fe", "ka", "di"} & set(text.split())) for text in test["text"]]
    assert predictions["swapped"].tolist() == holds
    changed = predictions[holds]
    found = fitted.metrics("score", "none")["metrics"]["test/counterfactual_flip_rate"]["0"]
    assert found["n"] == sum(holds) < 90
    assert found["value"] == (changed["predicted"] != changed["predicted_swapped"]).mean() > 0


def test_a_text_that_no_swap_changed_is_predicted_alike(predictions):
    unchanged = predictions[~predictions["swapped"]]
    assert (unchanged["predicted"] == unchanged["predicted_swapped"]).all()


def test_every_rate_has_n_and_an_interval(fitted):
    for by_seed in fitted.done("score", "none")["metrics"].values():
        found = by_seed["0"]
        assert found["n"] > 0
        assert 0 <= found["ci_low"] <= found["value"] <= found["ci_high"] <= 1


def test_swaps_that_change_no_text_give_no_flip_rate(fitted):
    Path("swaps.txt").write_text("king\tqueen\n")
    assert "test/counterfactual_flip_rate" not in fitted.done("score", "none")["metrics"]


def test_data_without_groups_needs_no_positive_label(fitted, texts):
    texts(90, seed=2).to_parquet("data/prepared/trees/test.parquet")
    fitted.parameters["toy"]["score"]["base"]["measures"]["predictions"].pop("positive_label")
    assert set(fitted.done("score", "none")["metrics"]) == {"test/counterfactual_flip_rate"}


def test_a_group_may_be_named_with_a_slash(fitted):
    path = "data/prepared/trees/test.parquet"
    pd.read_parquet(path).replace({"north": "he/she"}).to_parquet(path)
    assert "test/true_positive_rate/he/she" in fitted.done("score", "none")["metrics"]


def test_two_runs_are_byte_identical(fitted):
    fitted.done("score", "none")
    first = fitted.files()
    fitted.done("score", "none")
    assert fitted.files() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"positive_label": "oak"},
            "predictions.positive_label: 'oak' is no label of trees, which has groups; allowed: ash, birch, cedar",
        ),
        ({"positive_label": None}, "toy.score.base.measures.predictions.positive_label: None is no label of trees"),
        ({"swaps": {"paths": []}}, "params.yaml: toy.score.base.measures.predictions.swaps.paths: [] is not allowed"),
        ({"swaps": {"paths": ["absent.txt"]}}, "absent.txt: no such file"),
        ({"swaps": {"package": "absent", "paths": ["a.txt"]}}, "package absent: not installed"),
        ({"swaps": {"paths": ["a.txt"], "path": "b"}}, "swaps.path: no such setting; allowed: package, paths"),
        ({"dataset": "absent"}, "data/prepared/absent/test.parquet: no such file"),
        ({"label": "ash"}, "measures.predictions.label: no such setting; allowed: dataset, positive_label, swaps"),
    ],
)
def test_a_wrong_measure_is_one_line_and_leaves_nothing(fitted, changes, message):
    fitted.parameters["toy"]["score"]["base"]["measures"]["predictions"] |= changes
    assert message in fitted.refused("score", "none")
    assert not Path("data/scores").exists()


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (
            {},
            "params.yaml: toy.score.base.measures: {} is not allowed; name one or more of: predictions, sensitivity, g",
        ),
        ({"predictions": None}, "toy.score.base.measures: {} is not allowed; name one or more of: predictions, sens"),
        (
            {"guesses": {}},
            "base.measures.guesses: no such setting; allowed: bbq, bold, ceat, crows_pairs, group_auc, log_pro",
        ),
    ],
)
def test_no_kind_and_an_unknown_kind_are_refused_with_those_there_are(fitted, measures, message):
    fitted.parameters["toy"]["score"]["base"]["measures"] = measures
    assert message in fitted.refused("score", "none")


def test_a_measurement_may_be_on_data_of_its_own(fitted, texts):
    Path("data/prepared/others").mkdir()
    texts(30, seed=5).to_parquet("data/prepared/others/test.parquet")
    fitted.parameters["toy"]["score"]["base"]["measures"]["predictions"]["dataset"] = "others"
    # It has no groups, as those of the study have.
    found = fitted.done("score", "none")
    assert set(found["metrics"]) == {"test/counterfactual_flip_rate"}
    assert found["about"]["dataset"] == "trees"
    assert len(pd.read_parquet("data/scores/toy/none/predictions.parquet")) == 30


def test_a_seed_without_a_model_is_refused_and_leaves_nothing(fitted):
    fitted.change("score", {"seeds": [3]})
    assert "data/models/toy/none/3: no model of this seed" in fitted.refused("score", "none")
    assert not Path("data/scores").exists()


def test_a_label_that_training_never_saw_is_refused(fitted):
    path = "data/prepared/trees/test.parquet"
    pd.read_parquet(path).replace({"cedar": "oak"}).to_parquet(path)
    assert "label 'oak' is not in the training split" in fitted.refused("score", "none")
