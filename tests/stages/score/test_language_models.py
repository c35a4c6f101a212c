"""The command on a study of a language model: StereoSet and CrowS-Pairs."""

from pathlib import Path

import pandas as pd
import pytest

from stages.models.fitted import load_any_fitted
from stages.score import cell

KINDS = ("stereoset", "crows_pairs")


@pytest.fixture
def comparing(talkative, compared):
    """The study of a language model over bytes, whose cell `none` is measured on other data than it is trained on."""
    toy = talkative.parameters["toy"]
    del toy["train"]["base"]["secret"]
    talkative.parameters["models"]["mean"]["max_length"] = 64
    toy["train"]["base"]["epochs"] = 1
    of_kinds(talkative, "stereoset")
    # It has a test split alone.
    Path("data/prepared/benchmark").mkdir(parents=True)
    compared.to_parquet("data/prepared/benchmark/test.parquet")
    talkative.done("train", "none")
    return talkative


def of_kinds(study, *kinds):
    study.parameters["toy"]["score"]["base"]["measures"] = {kind: {"dataset": "benchmark"} for kind in kinds}
    return study


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_writes_a_table_of_items_and_metrics_and_nothing_else(comparing, compared, kind):
    before = set(comparing.files())
    metrics = of_kinds(comparing, kind).done("score", "none")
    table = f"data/scores/toy/none/{kind}.parquet"
    assert set(comparing.files()) - before == {table, "reports/metrics/toy/none/score.json"}
    assert metrics["about"]["dataset"] == "trees"
    assert pd.read_parquet(table)["example_id"].tolist() == compared["example_id"].tolist()
    for by_seed in (found for name, found in metrics["metrics"].items() if not name.endswith("left_out")):
        found = by_seed["0"]
        assert found["n"] > 0
        assert found["ci_low"] <= found["value"] <= found["ci_high"]


def test_several_kinds_measure_what_each_does_alone_of_models_that_are_loaded_once(comparing, monkeypatch):
    def scored(*kinds):
        metrics = of_kinds(comparing, *kinds).done("score", "none")["metrics"]
        return metrics, {path.name: path.read_bytes() for path in Path("data/scores/toy/none").iterdir()}

    alone = [scored(kind) for kind in KINDS]
    loaded = []
    monkeypatch.setattr(cell, "load_any_fitted", lambda *of: loaded.append(of) or load_any_fitted(*of))
    metrics, tables = scored(*reversed(KINDS))
    assert loaded == [("toy", "none", 0)]
    assert metrics == alone[0][0] | alone[1][0]
    assert tables == alone[0][1] | alone[1][1]


def test_kinds_may_not_share_a_metric(comparing, monkeypatch):
    monkeypatch.setitem(cell.MODULES, "crows_pairs", cell.MODULES["stereoset"])
    with pytest.raises(AssertionError, match="crows_pairs has a metric of another kind"):
        of_kinds(comparing, *KINDS).run("score", "none")


def test_the_metrics_of_stereoset_are_those_of_the_table(comparing):
    metrics = comparing.done("score", "none")["metrics"]
    groups = ["", "/gender", "/race", "/intrasentence", "/intersentence"]
    names = ("language_modeling_score", "stereotype_score", "idealized_cat_score")
    scores = {f"test/{name}{group}" for name in names for group in groups}
    assert set(metrics) == scores | {"test/stereoset_items_left_out"}
    table = pd.read_parquet("data/scores/toy/none/stereoset.parquet")
    by_term = (table["stereotype"] > table["antistereotype"]).groupby(table["term"]).mean()
    assert metrics["test/stereotype_score"]["0"]["value"] == pytest.approx(100 * by_term.mean())


def test_the_metrics_of_crows_pairs_are_those_of_the_table(comparing):
    metrics = of_kinds(comparing, "crows_pairs").done("score", "none")["metrics"]
    table = pd.read_parquet("data/scores/toy/none/crows_pairs.parquet")
    more, less = (table[f"whole_{name}"].round(3) for name in ("stereotype", "antistereotype"))
    assert metrics["test/crows_pairs_stereotype"]["0"]["value"] == (more > less).mean()
    assert {"test/crows_pairs_neutral/gender", "test/crows_pairs_unmodified_stereotype/antistereo"} < set(metrics)


def test_two_runs_are_byte_identical(comparing):
    comparing.done("score", "none")
    first = comparing.files()
    comparing.done("score", "none")
    assert comparing.files() == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_is_refused_with_what_it_can_be_measured_by(study, compared, kind):
    study.done("train", "none")
    Path("data/prepared/benchmark").mkdir()
    compared.to_parquet("data/prepared/benchmark/test.parquet")
    message = (
        f"params.yaml: toy.score.base.measures.{kind}: `{kind}` measures masked language models, and causal ones of "
        "network.kind bytes or pretrained, and `none` has a classifier; allowed of that model: predictions, "
        "sensitivity, group_auc; or name a cell that has one"
    )
    assert message in of_kinds(study, kind).refused("score", "none")


def test_a_network_of_words_is_refused(comparing, word_settings):
    comparing.parameters["models"]["mean"] = word_settings(hidden=16, layers=1).model_dump()
    comparing.done("train", "none")
    message = "and `none` has a language model of network.kind words; allowed of that model: none"
    assert message in comparing.refused("score", "none")


@pytest.mark.parametrize(("kind", "column"), [("stereoset", "unrelated"), ("crows_pairs", "direction")])
def test_data_without_what_is_compared_are_refused(comparing, compared, kind, column):
    compared.drop(columns=column).to_parquet("data/prepared/benchmark/test.parquet")
    message = f"toy.score.base.measures.{kind}.dataset: benchmark has no column `{column}`, which is read; name data"
    assert message in of_kinds(comparing, kind).refused("score", "none")


def test_the_data_of_the_study_are_refused_where_others_would_be_named(comparing):
    comparing.parameters["toy"]["score"]["base"]["measures"] = {"stereoset": {}}
    message = "params.yaml: toy.score.base.measures.stereoset.dataset: trees has no column `stereotype`, which is read"
    assert message in comparing.refused("score", "none")


def test_another_task_is_refused(comparing, compared):
    compared.assign(task="both").to_parquet("data/prepared/benchmark/test.parquet")
    message = "base.measures.stereoset.dataset: benchmark has the task 'both'; allowed: intrasentence, intersentence"
    assert message in comparing.refused("score", "none")


def test_sentences_that_the_model_would_cut_are_refused(comparing):
    comparing.parameters["models"]["mean"]["max_length"] = 16
    comparing.done("train", "none")
    assert "params.yaml: models: max_length: 16 would cut a sentence of" in comparing.refused("score", "none")


def test_data_without_a_train_split_cannot_train(comparing):
    comparing.parameters["toy"]["dataset"] = "benchmark"
    Path("data/prepared/benchmark/card.json").write_text("{}")
    assert "data/prepared/benchmark/train.parquet: " in comparing.refused("train", "none")


@pytest.fixture
def masked(comparing, masked_settings):
    """The same study of a masked language model."""
    comparing.parameters["models"]["mean"] = masked_settings(max_length=32).model_dump()
    return comparing


def test_masked_models_are_measured_where_items_have_a_blank_and_the_others_are_counted(masked, compared):
    table = compared.assign(text=["bo BLANK"] * 24)
    table.loc[0, "text"] = "without one"
    # Of its context the blank is the third word, and a sentence has but two.
    table.loc[1, ["text", "unrelated"]] = "ba be BLANK.", "ba be"
    table.to_parquet("data/prepared/benchmark/test.parquet")
    masked.done("train", "none")
    metrics = of_kinds(masked, *KINDS).done("score", "none")["metrics"]
    within = (table["task"] == "intrasentence").sum()
    assert metrics["test/stereoset_items_left_out"]["0"]["value"] == 24 - within + 2
    assert metrics["test/stereotype_score"]["0"]["n"] == within - 2
    assert "test/stereotype_score/intersentence" not in metrics
    assert metrics["test/crows_pairs_unmodified_stereotype"]["0"]["n"] == 24
    assert "test/crows_pairs_stereotype" not in metrics
    scores = pd.read_parquet("data/scores/toy/none/stereoset.parquet")
    assert scores[["stereotype", "antistereotype", "unrelated"]].isna().any(axis=1).sum() == 24 - within + 2


def test_masked_models_are_refused_items_that_none_of_them_can_be_scored_by(masked):
    masked.done("train", "none")
    message = (
        "toy.score.base.measures.stereoset.dataset: of the 24 items of benchmark none can be scored by a masked model; "
        "name data with items of the task intrasentence that have a BLANK"
    )
    assert message in masked.refused("score", "none")


def test_a_model_of_no_epoch_is_scored_as_it_was_built(masked, compared):
    masked.parameters["toy"]["train"]["base"]["epochs"] = 0
    masked.parameters["models"]["mean"]["encoder"]["trained_layers"] = 0
    trained = masked.done("train", "none")["metrics"]
    assert trained["test/masked_perplexity"]["0"]["n"] > 0
    metrics = of_kinds(masked, "crows_pairs").done("score", "none")["metrics"]
    assert metrics["test/crows_pairs_unmodified_stereotype"]["0"]["n"] == 24
