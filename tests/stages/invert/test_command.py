import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm


@pytest.fixture
def federated(study, bert):
    """The study with a BERT whose embeddings are trained, and inversions of it: of an update, and of another text's."""
    encoder = bert | {"layers": 1, "trained_embeddings": True}
    study.parameters["models"]["mean"] |= {"encoder": encoder, "hidden": 0}
    toy = study.parameters["toy"]
    del toy["partition"]
    toy["train"]["base"] |= {"train_on": "train", "epochs": 1}
    toy["invert"] = {
        "grid": {"variant": ["single", "control"]},
        "base": {"target": "none", "texts": 2, "steps": 50, "learning_rate": 0.05, "starts": 2},
        "variant": {"single": {}, "control": {"role": "control", "unrelated": True}},
    }
    return study


def test_metrics_are_the_means_of_the_table_and_nothing_else_is_written(federated):
    federated.change("train", {"seeds": [0, 1]})
    federated.done("train", "none")
    before = set(federated.files())
    content = federated.done("invert", "single")
    assert set(federated.files()) - before == {
        "data/inversions/toy/single/privacy.json",
        "data/inversions/toy/single/reconstructions.parquet",
        "reports/metrics/toy/single/invert.json",
    }
    table = pd.read_parquet("data/inversions/toy/single/reconstructions.parquet")
    assert table.groupby("seed").size().tolist() == [2, 2]
    assert set(table.columns) >= {"private", "answer", "objective", "example_id"}
    assert not any("epsilon" in name or "noise" in name for name in content["metrics"])
    for name, by_seed in content["metrics"].items():
        for seed, measured in by_seed.items():
            rows = table[table["seed"] == int(seed)]
            assert measured["value"] == pytest.approx(np.mean(rows[name.removeprefix("gradient/")]))
            assert measured["n"] == 2
    prepared = pd.read_parquet("data/prepared/trees/train.parquet").set_index("example_id")["text"]
    assert (table["private"] == table["example_id"].map(prepared)).all()
    assert content["metrics"]["gradient/bag_recall"]["0"]["value"] == 1


def test_the_control_attacks_the_same_texts_and_gets_little_of_them(federated):
    federated.done("train", "none")
    found, about = {}, {}
    for cell in ("single", "control"):
        about[cell] = federated.done("invert", cell)["about"]
        found[cell] = pd.read_parquet(f"data/inversions/toy/{cell}/reconstructions.parquet")
    assert found["single"]["example_id"].tolist() == found["control"]["example_id"].tolist()
    assert found["control"]["token_accuracy"].mean() < found["single"]["token_accuracy"].mean()
    # Of one model, and each with a name and a part of its own.
    assert [(each["cell"], each["role"], each["model"]) for each in about.values()] == [
        ("single", "model", "mean"),
        ("control", "control", "mean"),
    ]
    assert about["control"]["command"] == "python -m stages.invert --study toy --cell control"
    assert about["control"]["inputs_sha256"] == about["single"]["inputs_sha256"]


def test_noise_that_is_asked_for_by_an_epsilon_states_it_of_one_release(federated):
    federated.change("invert", {"steps": 5, "clipping_norm": 1.0, "epsilon": 8.0, "delta": 1e-5})
    federated.done("train", "none")
    content = federated.done("invert", "single")
    stated = {
        name: content["metrics"][f"gradient/{name}"]["0"]["value"]
        for name in ("epsilon", "replace_one_epsilon", "delta", "noise_multiplier")
    }
    assert 7.9 < stated["epsilon"] <= 8 < stated["replace_one_epsilon"]
    assert stated["delta"] == 1e-5
    # Delta of one Gaussian release at this epsilon (Balle and Wang 2018), whose sensitivity is 1 in clipping norms.
    shift, tail = 1 / (2 * stated["noise_multiplier"]), 8 * stated["noise_multiplier"]
    assert norm.cdf(shift - tail) - np.exp(8) * norm.cdf(-shift - tail) == pytest.approx(1e-5, rel=0.05)
    privacy = json.loads(Path("data/inversions/toy/single/privacy.json").read_text())
    assert privacy["epsilon"] == stated["epsilon"]
    assert privacy["adjacency"].startswith("replace one text by nothing")
    assert privacy["sampler"]["kind"] == "none"
    assert privacy["schedule"] == [{"noise_multiplier": stated["noise_multiplier"], "steps": 1}]
    assert content["about"]["mechanism"] == "gaussian"


def test_noise_by_hand_states_no_epsilon(federated):
    federated.change("invert", {"steps": 5, "clipping_norm": 1.0, "noise_multiplier": 0.01})
    federated.done("train", "none")
    content = federated.done("invert", "single")
    assert content["metrics"]["gradient/noise_multiplier"]["0"]["value"] == 0.01
    assert not any("epsilon" in name for name in content["metrics"])
    privacy = json.loads(Path("data/inversions/toy/single/privacy.json").read_text())
    assert privacy == {
        "epsilon": None,
        "reason": "the noise was given by hand, and what it guarantees was not computed",
    }
    assert content["about"]["mechanism"] == "gaussian"


def test_a_rerun_gives_the_same_bytes(federated):
    federated.change("invert", {"steps": 20, "batch_size": 2, "clipping_norm": 1.0, "noise_multiplier": 0.1})
    federated.done("train", "none")
    federated.done("invert", "single")
    first = federated.files()
    federated.done("invert", "single")
    assert federated.files() == first


def test_other_splits_are_attacked_too(federated):
    federated.change("invert", {"split": "test", "steps": 5})
    federated.done("train", "none")
    federated.done("invert", "single")
    prepared = pd.read_parquet("data/prepared/trees/test.parquet")
    table = pd.read_parquet("data/inversions/toy/single/reconstructions.parquet")
    assert set(table["example_id"]) <= set(prepared["example_id"])


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"gumbel": True}, "toy.invert.base.gumbel: no such setting; allowed: batch_size, clipping_norm"),
        ({"texts": 0}, "toy.invert.base.texts: 0 is not allowed; input should be greater than or equal to 1"),
        ({"objective": "lamp"}, "toy.invert.base.objective: 'lamp' is not allowed; input should be 'dlg', 'tag' or"),
        ({"batch_size": 4}, "texts: 2 are no whole batches of batch_size: 4"),
        (
            {"noise_multiplier": 1.0},
            "noise_multiplier: 1 asks for noise, which is in clipping norms and needs clipping",
        ),
        (
            {"epsilon": 1e-9, "delta": 1e-12, "clipping_norm": 1.0},
            "toy.invert.base.epsilon: 1e-09 at delta 1e-12 asks for more noise than 1000 clipping norms; give at least",
        ),
        ({"texts": 300}, "toy.invert.base.texts: 300 is more than the "),
        ({"dataset": "stones"}, "data/prepared/stones/train.parquet: no such file; run `dvc repro`"),
        ({"seeds": [4]}, "data/models/toy/none/4: no model of this seed"),
    ],
)
def test_a_wrong_input_is_one_line(federated, base, message):
    federated.done("train", "none")
    federated.change("invert", base)
    assert message in federated.refused("invert", "single")


def test_a_cell_that_is_not_trained_is_named(federated):
    assert "data/models/toy/none/about.json: no such file; run `dvc repro`" in federated.refused("invert", "single")


def test_a_model_with_frozen_embeddings_is_refused_with_the_remedy(federated, bert):
    federated.parameters["models"]["mean"]["encoder"] = bert
    federated.done("train", "none")
    error = federated.refused("invert", "single")
    assert (
        "toy.invert.base.target: the model's token embeddings are frozen, so that no update has their gradient" in error
    )
    assert "train the cell with an encoder of `trained_embeddings: true`" in error
