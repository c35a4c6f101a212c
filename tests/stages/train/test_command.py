from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

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


def asked(study, **privacy):
    private(study)["privacy"].update(privacy)


def stated():
    return read_json(Path("data/models/toy/dpsgd/0/privacy.json"))


@pytest.mark.parametrize("rule", ["equal", "size", "public"])
def test_a_cell_that_clips_by_layer_states_the_norms_of_its_layers_and_the_same_epsilon(study, rule):
    usual = study.done("train", "dpsgd")["metrics"]
    asked(study, layers=rule)
    found = study.done("train", "dpsgd")["metrics"]
    layers = stated()["layers"]
    assert layers["rule"] == rule
    assert list(layers["clipping_norms"]) == ["hidden.0", "labels"]
    assert np.hypot(*layers["clipping_norms"].values()) == pytest.approx(0.1)
    assert found["train/epsilon"] == usual["train/epsilon"]
    assert found["train/accuracy"] != usual["train/accuracy"]


def test_public_norms_do_not_depend_on_the_private_texts(study, texts):
    texts_of = Path("data/prepared/trees/train.parquet")
    asked(study, layers="public")
    study.done("train", "dpsgd")
    before = stated()["layers"]
    table = pd.read_parquet(texts_of)
    table.assign(text="ba", label=table["label"].to_numpy()[::-1]).to_parquet(texts_of)
    study.done("train", "dpsgd")
    assert stated()["layers"] == before


@pytest.mark.parametrize("kind", ["static", "bert", "words"])
def test_public_texts_are_made_for_taggers_and_transformers(study, texts, bert, tagger, kind):
    for split, n, seed in (("train", 60, 1), ("valid", 20, 3), ("test", 30, 2)):
        texts(n, tags=True, seed=seed).to_parquet(f"data/prepared/trees/{split}.parquet")
    if kind == "bert":
        study.parameters["models"]["mean"] |= {"encoder": bert}
    elif kind == "words":
        study.parameters["models"]["mean"] |= tagger
    else:
        study.parameters["models"]["mean"] |= {"head": "bilstm", "hidden": 4}
    base(study).update(train_on="train", batch_size=10)
    private(study).update(epochs=1)
    asked(study, layers="public")
    study.done("train", "dpsgd")
    layer = {
        "bert": "encoder.model.encoder.layer.1.attention.self.query",
        "static": "recurrent",
        "words": "characters.embedding",
    }[kind]
    assert {layer, "labels", "tags"} <= set(stated()["layers"]["clipping_norms"])


@pytest.mark.parametrize("groups", [{}, {"group": 4, "noise_decay": 0.9}])
def test_a_quantile_is_stated_with_the_norm_it_ended_at(study, groups):
    asked(study, quantile={"noise": 8.0}, **groups)
    private(study).update(mechanism="edpsgd" if groups else "dpsgd")
    content = study.done("train", "dpsgd")["metrics"]
    privacy = stated()
    assert 2.9 < privacy["epsilon"] <= 3.0
    quantile = privacy["quantile"]
    assert (quantile["target"], quantile["learning_rate"], quantile["noise"]) == (0.5, 0.2, 8.0)
    multipliers = [phase["noise_multiplier"] for phase in privacy["schedule"]]
    assert multipliers[0] == content["train/noise_multiplier"]["0"]["value"]
    expected = [(sigma**-2 - 16.0**-2) ** -0.5 for sigma in multipliers]
    assert quantile["gradient_noise_multipliers"] == pytest.approx(expected)
    assert quantile["last_clipping_norm"] not in (0.1, privacy["clipping_norm"])


@pytest.mark.parametrize(
    ("control", "reason"), [("no_noise", "no noise was added"), ("no_clipping", "no gradient was clipped")]
)
def test_a_control_guarantees_nothing_and_says_what_it_would_state(study, control, reason):
    usual = study.done("train", "dpsgd")["metrics"]
    expected = stated()
    private(study).update(role="control")
    asked(study, control=control)
    metrics = study.done("train", "dpsgd")["metrics"]
    assert stated() == {"epsilon": None, "reason": f"a control: {reason}", "stated": expected}
    assert metrics["train/stated_epsilon"] == usual["train/epsilon"]
    assert not {"train/epsilon", "train/replace_one_epsilon", "train/claimed_epsilon"} & set(metrics)
    sigma = usual["train/noise_multiplier"]["0"]["value"]
    assert metrics["train/noise_multiplier"]["0"]["value"] == (0.0 if control == "no_noise" else sigma)


def test_the_controls_leave_out_what_they_say(study):
    """Without noise all epsilons give one model; without clipping, noise of next to nothing gives the same."""
    models = []
    # Every batch is all there is: with other settings a cell draws others.
    private(study).update(role="control", batch_size=160)
    for control, epsilon, norm in (("no_noise", 3.0, 1e6), ("no_noise", 5.0, 1e6), ("no_clipping", 3.0, 1e-6)):
        asked(study, control=control, epsilon=epsilon, clipping_norm=norm)
        study.done("train", "dpsgd")
        models.append(load_file("data/models/toy/dpsgd/0/model.safetensors"))
    for name, tensor in models[0].items():
        assert tensor.equal(models[1][name])
        np.testing.assert_allclose(tensor, models[2][name], atol=2e-3)
    asked(study, control="no_noise", clipping_norm=1e-6)
    study.done("train", "dpsgd")
    clipped = load_file("data/models/toy/dpsgd/0/model.safetensors")
    assert max(float((tensor - models[0][name]).abs().max()) for name, tensor in clipped.items()) > 0.01


@pytest.mark.parametrize("clipping", ["loop", "opacus_hooks", "opacus_ghost"])
def test_a_peer_trains_what_book_keeping_does(study, clipping):
    usual = study.done("train", "dpsgd")["metrics"]
    ours = load_file("data/models/toy/dpsgd/0/model.safetensors")
    asked(study, clipping=clipping)
    assert study.done("train", "dpsgd")["metrics"]["train/epsilon"] == usual["train/epsilon"]
    for name, tensor in load_file("data/models/toy/dpsgd/0/model.safetensors").items():
        np.testing.assert_allclose(tensor, ours[name], atol=1e-4)


def test_a_control_has_the_batches_and_the_noise_of_what_it_is_held_against(study):
    # No gradient reaches the norm, so that not clipping changes nothing.
    asked(study, clipping_norm=1e6)
    study.done("train", "dpsgd")
    ours = load_file("data/models/toy/dpsgd/0/model.safetensors")
    private(study).update(role="control")
    asked(study, control="no_clipping")
    study.done("train", "dpsgd")
    for name, tensor in load_file("data/models/toy/dpsgd/0/model.safetensors").items():
        np.testing.assert_allclose(tensor, ours[name], rtol=1e-5)


def test_a_delta_of_one_in_n_is_warned_of_once(study):
    study.parameters["toy"]["seeds"] = [0, 1]
    private(study).update(epochs=1)
    asked(study, delta=1 / 160)
    code, error = study.run_apart("train", "dpsgd")
    assert code == 0
    assert error == (
        "warning: params.yaml: toy.train.variant.dpsgd.privacy.delta: "
        "0.00625 is no less than one in the 160 training examples; give one well below 1/160 = 0.00625\n"
    )


def test_an_epsilon_out_of_reach_is_refused_with_one_that_is_not(study):
    asked(study, epsilon=1e-7)
    error = study.refused("train", "dpsgd")
    assert "toy.train.variant.dpsgd.privacy.epsilon: 1e-07 at delta 1e-05 asks for more noise than 1000" in error
    asked(study, epsilon=float(error.split("give at least ")[1].split(",")[0]))
    study.done("train", "dpsgd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: asked(study, clipping_norm=0.0), "clipping_norm: 0.0 is not allowed; input should be greater"),
        (lambda study: asked(study, layers="each"), "should be 'flat', 'equal', 'size' or 'public'"),
        (
            lambda study: asked(study, layers="equal", quantile={}),
            "quantile counts norms over all parameters: it takes layers: flat, not equal",
        ),
        (lambda study: asked(study, quantile={"target": 1.0}), "privacy.quantile.target: 1.0 is not allowed"),
        (
            lambda study: asked(study, quantile={"noise": 0.1}),
            "privacy.quantile.noise: 0.1 leaves nothing of a noise multiplier of ",
        ),
        (
            lambda study: asked(study, control="no_noise"),
            "privacy: control: no_noise guarantees nothing and needs role: control",
        ),
        (
            lambda study: asked(study, control="no_clipping", quantile={}),
            "control: no_clipping takes no quantile: all else is as without it",
        ),
        (
            lambda study: asked(study, clipping="opacus_ghost", layers="size"),
            "clipping: opacus_ghost takes no layers; book_keeping and loop do",
        ),
        (
            lambda study: (
                asked(study, clipping="opacus_hooks"),
                study.parameters["models"]["mean"].update(head="bilstm"),
            ),
            "privacy.clipping: opacus_hooks cannot take gradients of nn.LSTM",
        ),
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
            "is not allowed; epochs: 0 trains nothing, so that `privacy` does nothing: give an epoch, or null",
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


def test_canaries_are_of_the_reserve_mislabelled_and_in_by_a_coin(study):
    study.parameters["toy"]["train"]["variant"]["none"]["canaries"] = 60
    content = study.done("train", "none")
    canaries = pd.read_parquet("data/models/toy/none/0/canaries.parquet")
    truth = pd.read_parquet("data/prepared/trees/train.parquet").set_index("example_id")["label"]
    held = pd.read_parquet("data/partitions/halves/clients.parquet").query("seed == 0").set_index("example_id")["split"]
    assert list(canaries.columns) == ["example_id", "label", "included"]
    assert canaries["example_id"].nunique() == 60
    assert set(held[canaries["example_id"]]) == {"reserve"}
    assert (canaries["label"].to_numpy() != truth[canaries["example_id"]].to_numpy()).all()
    assert 15 < canaries["included"].sum() < 45
    # What they are taught is wrong, so they have no part in the accuracy.
    assert content["metrics"]["train/accuracy"]["0"]["n"] == 160


def test_canaries_differ_from_seed_to_seed(study):
    study.parameters["toy"]["train"]["variant"]["none"]["canaries"] = 40
    study.change("train", {"seeds": [0, 1]})
    study.done("train", "none")
    first, second = (pd.read_parquet(f"data/models/toy/none/{seed}/canaries.parquet") for seed in (0, 1))
    assert set(first["example_id"]) != set(second["example_id"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canaries": 81}, "canaries: 81 of a reserve of 80; give fewer, or a larger reserve"),
        (
            {"canaries": 5, "train_on": "reserve"},
            "canaries are drawn from the reserve of a partition: train_on: member",
        ),
    ],
)
def test_canaries_that_cannot_be_are_refused(study, changes, message):
    study.parameters["toy"]["train"]["variant"]["none"] |= changes
    assert message in study.refused("train", "none")


def test_canaries_are_not_for_groups(study):
    study.parameters["toy"]["train"]["variant"]["dpsgd"] |= {"canaries": 10, "mechanism": "edpsgd"}
    study.parameters["toy"]["train"]["variant"]["dpsgd"]["privacy"]["group"] = 2
    assert "canaries audit what is stated of adding or removing one example" in study.refused("train", "dpsgd")


def test_the_noise_is_fixed_before_the_coins_are_thrown(study):
    study.parameters["toy"]["train"]["variant"]["dpsgd"]["canaries"] = 40
    study.change("train", {"seeds": [0, 1]})
    noise = study.done("train", "dpsgd")["metrics"]["train/noise_multiplier"]
    included = [pd.read_parquet(f"data/models/toy/dpsgd/{s}/canaries.parquet")["included"].sum() for s in (0, 1)]
    assert included[0] != included[1]
    assert noise["0"]["value"] == noise["1"]["value"]
