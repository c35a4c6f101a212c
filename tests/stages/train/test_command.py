from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.artifacts import read_json

ABOUT = {
    "study": "toy",
    "cell": "none",
    "verb": "train",
    "role": "model",
    "dataset": "trees",
    "model": "mean",
    "partition": "halves",
    "mechanism": "none",
    "device": "cpu",
    "command": "python -m stages.train --study toy --cell none",
}


def test_a_cell_writes_its_models_metrics_and_history_and_nothing_else(study):
    study.write_parameters()
    before = set(study.files())
    study.done("train", "none")
    assert set(study.files()) - before == {
        "data/models/toy/none/about.json",
        "data/models/toy/none/0/config.json",
        "data/models/toy/none/0/history.parquet",
        "data/models/toy/none/0/model.safetensors",
        "data/models/toy/none/0/privacy.json",
        "reports/curves/toy/none/history.csv",
        "reports/metrics/toy/none/train.json",
    }
    assert Path("reports/timings/train-toy-none.json").exists()


def test_the_metrics_say_what_was_measured_on_how_many_examples_and_how_surely(study):
    content = study.done("train", "none")
    digest = content["about"].pop("inputs_sha256")
    assert content["about"] == ABOUT
    assert len(digest) == 64
    sizes = {key: by_seed["0"]["n"] for key, by_seed in content["metrics"].items()}
    assert sizes == {
        "train/accuracy": 160,
        "train/macro_f1": 160,
        "test/accuracy": 90,
        "test/macro_f1": 90,
        "train/parameters": None,
    }
    for key, by_seed in content["metrics"].items():
        if key != "train/parameters":
            found = by_seed["0"]
            assert 0 <= found["ci_low"] < found["value"] < found["ci_high"] <= 1
    assert content["metrics"]["train/parameters"]["0"]["value"] == 8 * 16 + 16 + 16 * 3 + 3


def test_the_models_folder_says_what_it_holds(study):
    content = study.done("train", "none")
    assert read_json(Path("data/models/toy/none/about.json")) == content["about"]


def test_the_history_has_a_loss_per_seed_and_epoch(study):
    study.parameters["toy"]["train"]["base"]["epochs"] = 3
    study.done("train", "none")
    history = pd.read_csv("reports/curves/toy/none/history.csv")
    assert list(history.columns) == ["seed", "step", "metric", "value"]
    assert history[["seed", "step", "metric"]].values.tolist() == [[0, step, "train/loss"] for step in (1, 2, 3)]
    kept = pd.read_parquet("data/models/toy/none/0/history.parquet")
    np.testing.assert_allclose(kept["value"], history["value"])


@pytest.mark.parametrize("cell", ["none", "dpsgd"])
def test_two_runs_are_byte_identical(study, cell):
    study.done("train", cell)
    first = study.files()
    study.done("train", cell)
    assert study.files() == first


def test_seeds_in_processes_of_their_own_give_what_each_gives_alone(study):
    study.parameters["toy"]["seeds"] = [0, 1]
    assert study.run_apart("train", "none") == (0, "")
    together = study.files()
    for seed in (0, 1):
        study.parameters["toy"]["seeds"] = [seed]
        study.done("train", "none")
        name = f"data/models/toy/none/{seed}/model.safetensors"
        assert study.files()[name] == together[name]


def test_dpsgd_states_what_it_guarantees(study):
    content = study.done("train", "dpsgd")
    privacy = read_json(Path("data/models/toy/dpsgd/0/privacy.json"))
    assert 2.9 < privacy["epsilon"] <= 3.0
    assert (privacy["delta"], privacy["clipping_norm"]) == (1e-5, 0.1)
    assert privacy["sampler"] == {"kind": "poisson", "of": "example", "probability": 16 / 160}
    assert privacy["schedule"] == [
        {"steps": 20, "noise_multiplier": content["metrics"]["train/noise_multiplier"]["0"]["value"]}
    ]
    assert content["metrics"]["train/epsilon"]["0"]["value"] == privacy["epsilon"]
    assert content["about"]["mechanism"] == "dpsgd"


def test_a_private_tagger_is_trained_and_saved(study, texts):
    for split, n, seed in (("train", 60, 1), ("valid", 20, 3), ("test", 30, 2)):
        texts(n, tags=True, seed=seed).to_parquet(f"data/prepared/trees/{split}.parquet")
    study.parameters["models"]["mean"] |= {"head": "bilstm", "hidden": 4}
    study.parameters["toy"]["train"]["base"] |= {"train_on": "train", "batch_size": 10}
    study.parameters["toy"]["train"]["variant"]["dpsgd"]["epochs"] = 1
    assert "test/slot_f1" in study.done("train", "dpsgd")["metrics"]


def test_ordinary_training_guarantees_nothing(study):
    study.done("train", "none")
    privacy = read_json(Path("data/models/toy/none/0/privacy.json"))
    assert privacy == {"epsilon": None, "reason": "trained without a privacy mechanism"}


def test_an_axis_may_choose_the_model(study):
    study.parameters["toy"]["train"]["grid"] = {"model": ["small"], "variant": ["none"]}
    study.parameters["toy"]["train"]["model"] = {"small": {}}
    content = study.done("train", "small-none")
    assert content["about"]["model"] == "small"
    assert content["metrics"]["train/parameters"]["0"]["value"] == 8 * 4 + 4 + 4 * 3 + 3


def test_a_cell_that_fits_all_of_train_needs_no_partition(study):
    Path("data/partitions/halves/clients.parquet").unlink()
    study.parameters["toy"]["train"]["base"]["train_on"] = "train"
    assert study.done("train", "none")["metrics"]["train/accuracy"]["0"]["n"] == 400


def test_the_hash_of_the_inputs_follows_the_data(study, texts):
    before = study.done("train", "none")["about"]["inputs_sha256"]
    texts(90, seed=3).to_parquet("data/prepared/trees/test.parquet")
    assert study.done("train", "none")["about"]["inputs_sha256"] != before


def base(study):
    return study.parameters["toy"]["train"]["base"]


def private(study):
    return study.parameters["toy"]["train"]["variant"]["dpsgd"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda study: base(study).update(batch_size=161),
            "params.yaml: toy.train.base.batch_size: 161 is more than the 160 examples; give a smaller batch",
        ),
        (
            lambda study: private(study)["privacy"].update(epsilon=0.0),
            "params.yaml: toy.train.variant.dpsgd.privacy.epsilon: 0.0 is not allowed; input should be greater than 0",
        ),
        (
            lambda study: private(study)["privacy"].update(epsilon=-1.0),
            "params.yaml: toy.train.variant.dpsgd.privacy.epsilon: -1.0 is not allowed; input should be greater than 0",
        ),
        (lambda study: private(study)["privacy"].update(delta=1.0), "privacy.delta: 1.0 is not allowed"),
        (lambda study: private(study).pop("privacy"), "mechanism: dpsgd needs `privacy`"),
        (lambda study: private(study).update(mechanism="sgd"), "input should be 'none', 'dpsgd' or 'edpsgd'"),
        (
            lambda study: private(study).update(mechanism="edpsgd"),
            "edpsgd needs a group of 2 or more, or a noise_decay",
        ),
        (
            lambda study: private(study)["privacy"].update(group=4),
            "dpsgd takes no group and no noise_decay; edpsgd does",
        ),
        (lambda study: private(study)["privacy"].update(noise_decay=1.5), "privacy.noise_decay: 1.5 is not allowed"),
        (
            lambda study: private(study).update(epochs=0),
            "params.yaml: toy.train.variant.dpsgd.epochs: 0 is not allowed",
        ),
        (
            lambda study: study.parameters["toy"].update(seeds=[0, 5]),
            "clients.parquet: has no seed 5; add it to params.yaml: partitions.halves.seeds",
        ),
        (
            lambda study: base(study).update(train_on="half"),
            (
                "toy.train.base.train_on: 'half' is not allowed; "
                "input should be 'train', 'member', 'nonmember' or 'reserve'"
            ),
        ),
        (lambda study: study.parameters["toy"].pop("partition"), "train_on: member needs `partition`"),
        (
            lambda study: study.parameters["toy"].update(model="huge"),
            "params.yaml: models: has no `huge`; it has: mean, small",
        ),
        (
            lambda study: study.parameters["toy"].update(dataset="bushes"),
            "data/prepared/bushes/train.parquet: no such file; run `dvc repro`",
        ),
        (
            lambda study: study.parameters["models"]["mean"]["encoder"].update(sha256="0" * 64),
            "table.safetensors: sha256 is ",
        ),
        (
            lambda study: (study.folder / "data/partitions/halves/clients.parquet").unlink(),
            "data/partitions/halves/clients.parquet: no such file; run `dvc repro`",
        ),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(study, change, message):
    change(study)
    assert message in study.refused("train", "dpsgd")
    assert not list(Path().glob("data/models/*/*"))


@pytest.mark.parametrize(
    ("study_name", "cell", "message"),
    [
        ("toys", "none", "params.yaml: top level: has no `toys`; it has: models, toy"),
        ("models", "none", "params.yaml: models: has no `train`; it has: mean, small"),
        ("toy", "fedavg", "params.yaml: toy.train.grid: has no cell `fedavg`; it has: none, dpsgd, control"),
    ],
)
def test_an_unknown_study_or_cell_is_refused(study, study_name, cell, message):
    assert message in study.refused("train", cell, study_name)
    assert not Path("data/models").exists()


def test_training_that_diverges_is_refused(study):
    base(study).update(learning_rate=1e30)
    assert "learning_rate: with 1e+30 the loss of seed 0 stopped being a number" in study.refused("train", "none")


def test_a_failure_keeps_the_models_that_are_there(study):
    study.done("train", "none")
    before = study.files()
    base(study).update(batch_size=1000)
    study.refused("train", "none")
    assert study.files() | {"params.yaml": b""} == before | {"params.yaml": b""}


def test_private_training_is_as_good_as_its_noise_and_clipping_allow_and_no_better(study, texts):
    for split, n, seed in (("train", 800, 1), ("test", 1000, 2)):
        texts(n, seed=seed, preference=0.9).to_parquet(f"data/prepared/trees/{split}.parquet")
    base(study).update(train_on="train", batch_size=80, learning_rate=0.02)
    private(study).update(epochs=5)
    private(study)["privacy"].update(clipping_norm=0.05)
    # Chance is 0.33. Without noise it is 0.77, without clipping 0.79, with noise as large as a batch 0.38.
    assert 0.56 < study.done("train", "dpsgd")["metrics"]["test/accuracy"]["0"]["value"] < 0.69
