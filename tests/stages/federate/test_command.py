from pathlib import Path

import pandas as pd
import pytest

from stages.common.artifacts import read_json


def test_a_cell_writes_its_models_metrics_and_history_and_nothing_else(study):
    study.write_parameters()
    before = set(study.files())
    study.done("federate", "fedavg")
    assert set(study.files()) - before == {
        "data/models/toy/fedavg/about.json",
        "data/models/toy/fedavg/0/config.json",
        "data/models/toy/fedavg/0/history.parquet",
        "data/models/toy/fedavg/0/model.safetensors",
        "data/models/toy/fedavg/0/privacy.json",
        "reports/curves/toy/fedavg/history.csv",
        "reports/metrics/toy/fedavg/federate.json",
    }


def test_the_metrics_say_what_was_measured_on_how_many_examples_and_how_surely(study):
    content = study.done("federate", "fedavg")
    assert (content["about"]["verb"], content["about"]["mechanism"]) == ("federate", "fedavg")
    assert content["about"]["command"] == "python -m stages.federate --study toy --cell fedavg"
    sizes = {key: by_seed["0"]["n"] for key, by_seed in content["metrics"].items() if key != "train/parameters"}
    assert sizes == {"train/accuracy": 160, "train/macro_f1": 160, "test/accuracy": 90, "test/macro_f1": 90}
    found = content["metrics"]["test/accuracy"]["0"]
    assert found["ci_low"] < found["value"] < found["ci_high"]


def test_the_history_has_the_rounds_of_every_seed(study):
    study.done("federate", "fedavg")
    history = pd.read_csv("reports/curves/toy/fedavg/history.csv")
    assert history[["seed", "step", "metric"]].to_numpy().tolist() == [
        [0, number, metric] for number in (1, 2, 3) for metric in ("train/loss", "valid/accuracy")
    ]


def test_two_runs_are_byte_identical(study):
    study.done("federate", "fedavg")
    first = study.files()
    study.done("federate", "fedavg")
    assert study.files() == first


def test_federation_guarantees_nothing(study):
    study.done("federate", "fedavg")
    assert read_json(Path("data/models/toy/fedavg/0/privacy.json"))["epsilon"] is None


def test_federated_averaging_learns(study):
    study.parameters["toy"]["federate"]["base"]["rounds"] = 15
    # Chance is 0.33.
    assert study.done("federate", "fedavg")["metrics"]["test/accuracy"]["0"]["value"] > 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_on": "reserve"},
            "toy.federate.base.train_on: 'reserve' is not allowed; input should be 'train' or 'member'",
        ),
        (
            {"train_on": "nonmember"},
            "toy.federate.base.train_on: 'nonmember' is not allowed; input should be 'train' or 'member'",
        ),
        ({"train_on": "train"}, "clients.parquet: has no split train; it has: member, nonmember, reserve"),
        ({"batch_size": 161}, "toy.federate.base.batch_size: 161 is more than the 160 examples"),
        ({"rounds": 0}, "params.yaml: toy.federate.base.rounds: 0 is not allowed"),
        ({"clients_per_round": 0}, "params.yaml: toy.federate.base.clients_per_round: 0 is not allowed"),
        ({"mechanism": "fedprox"}, "params.yaml: toy.federate.base.mechanism: 'fedprox' is not allowed"),
        ({"partition": None}, "params.yaml: toy.federate.base.partition: missing; add it"),
        ({"partition": "thirds"}, "data/partitions/thirds/clients.parquet: no such file; run `dvc repro`"),
        ({"seeds": [7]}, "clients.parquet: has no seed 7; add it to params.yaml: partitions.halves.seeds"),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(study, changes, message):
    study.change("federate", changes)
    assert message in study.refused("federate", "fedavg")
    assert not Path("data/models").exists()


def test_a_partition_of_other_data_is_refused(study, texts):
    texts(400, seed=9).to_parquet("data/prepared/trees/train.parquet")
    message = "partition: 160 of its examples are not in the data set; run `dvc repro`"
    assert message in study.refused("federate", "fedavg")
