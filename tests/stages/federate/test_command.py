import sys
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
    metrics = content["metrics"]
    sizes = {key: by_seed["0"]["n"] for key, by_seed in metrics.items() if by_seed["0"]["n"]}
    assert sizes == {"train/accuracy": 160, "train/macro_f1": 160, "test/accuracy": 90, "test/macro_f1": 90}
    # Three rounds of four clients, four bytes a value.
    sent = metrics["train/parameters"]["0"]["value"] * 3 * 4 * 4
    assert [metrics[f"train/bytes_{way}"]["0"]["value"] for way in ("up", "down")] == [sent, sent]
    found = content["metrics"]["test/accuracy"]["0"]
    assert found["ci_low"] < found["value"] < found["ci_high"]


def test_the_history_has_the_rounds_of_every_seed(study):
    study.done("federate", "fedavg")
    history = pd.read_csv("reports/curves/toy/fedavg/history.csv")
    assert history[["seed", "step", "metric"]].to_numpy().tolist() == [
        [0, number, metric]
        for number in (1, 2, 3)
        for metric in ("train/loss", "valid/accuracy", "train/bytes_up", "train/bytes_down")
    ]


def test_two_runs_are_byte_identical(study):
    study.done("federate", "fedavg")
    first = study.files()
    study.done("federate", "fedavg")
    assert study.files() == first


def test_federation_guarantees_nothing(study):
    study.done("federate", "fedavg")
    assert read_json(Path("data/models/toy/fedavg/0/privacy.json"))["epsilon"] is None


def test_a_guarantee_is_of_clients(study):
    change = {"mechanism": "dp_fedavg", "privacy": {"epsilon": 5.0, "delta": 0.01, "clipping_norm": 0.1}}
    study.change("federate", change)
    metrics = study.done("federate", "fedavg")["metrics"]
    privacy = read_json(Path("data/models/toy/fedavg/0/privacy.json"))
    assert metrics["train/epsilon"]["0"]["value"] == privacy["epsilon"] <= 5.0
    assert (privacy["unit"], privacy["clipped"]) == ("client", "update of a client")
    history = pd.read_csv("reports/curves/toy/fedavg/history.csv")
    assert (history["metric"] == "train/clipping_norm").sum() == 3


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
        (
            {"mechanism": "fedsgd"},
            "mechanism: 'fedsgd' is not allowed; input should be 'fedavg', 'fedprox', 'scaffold', 'fednova', 'dp_",
        ),
        ({"mechanism": "fedprox"}, "mechanism: fedprox needs `mu`"),
        ({"mu": 0.1}, "mechanism: fedavg takes no `mu`; fedprox and fednova do"),
        ({"mechanism": "fednova", "client": {"kind": "adamw"}}, "mechanism: fednova takes client.kind: sgd, not adamw"),
        (
            {"mechanism": "scaffold", "client": {"kind": "sgd", "momentum": 0.9}},
            "mechanism: scaffold takes client.kind: sgd without momentum",
        ),
        ({"server": {"kind": "lamb"}}, "toy.federate.base.server: {'kind': 'lamb'} is not allowed"),
        ({"server": {"kind": "adam"}}, "toy.federate.base.server.learning_rate: missing"),
        (
            {"secure_aggregation": {"neighbours": 5}},
            "base.secure_aggregation.neighbours: 5 is not allowed; input",
        ),
        ({"participation": {"stragglers": 0.5}}, "stragglers: 0.5 needs a `deadline`"),
        ({"partition": None}, "params.yaml: toy.federate.base.partition: missing; add it"),
        ({"partition": "thirds"}, "data/partitions/thirds/clients.parquet: no such file; run `dvc repro`"),
        ({"seeds": [7]}, "clients.parquet: has no seed 7; add it to params.yaml: partitions.halves.seeds"),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(study, changes, message):
    study.change("federate", changes)
    assert message in study.refused("federate", "fedavg")
    assert not Path("data/models").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients_per_round": 8}, "base.clients_per_round: 8 is more than the 7 clients of the partition"),
        ({"freeze": ["attention"]}, "base.freeze: no trained parameter is within `attention`"),
    ],
)
def test_what_does_not_fit_the_clients_or_the_model_is_found_before_the_first_round(study, changes, message):
    study.change("federate", changes)
    assert f"params.yaml: toy.federate.{message}; " in study.refused("federate", "fedavg")


def test_without_ray_its_backend_is_refused(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    study.change("federate", {"backend": "ray"})
    message = "toy.federate.base.backend: ray is not installed; `pip install 'assay[ray]'`, or give backend: processes"
    assert message in study.refused("federate", "fedavg")


@pytest.mark.parametrize(
    "changes",
    [
        {"mechanism": "fedprox", "mu": 0.1},
        {"mechanism": "scaffold"},
        {"mechanism": "fednova", "participation": {"drop_out": 0.1, "stragglers": 0.5, "deadline": 4}},
        {"client": {"kind": "adamw"}, "learning_rate": 0.01},
        {"server": {"kind": "yogi", "learning_rate": 0.1}},
        {"freeze": ["hidden"]},
        {"secure_aggregation": {"drop_out": 0.05}},
    ],
    ids=str,
)
def test_every_algorithm_runs_in_one_process_or_several_with_the_same_files(study, changes, monkeypatch):
    study.change("federate", changes)
    study.parameters["toy"]["federate"]["variant"]["fedavg"].pop("learning_rate")
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("ASSAY_PROCESSES", processes)
        study.done("federate", "fedavg")
        found.append(study.files())
    assert found[0] == found[1]


def test_a_partition_of_other_data_is_refused(study, texts):
    texts(400, seed=9).to_parquet("data/prepared/trees/train.parquet")
    message = "partition: 160 of its examples are not in the data set; run `dvc repro`"
    assert message in study.refused("federate", "fedavg")
