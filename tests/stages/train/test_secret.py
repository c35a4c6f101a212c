import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from stages.models.examples import read_split
from stages.models.fitted import load_fitted


def hidden(cell="none", seed=0):
    return json.loads(Path(f"data/models/toy/{cell}/{seed}/secret.json").read_text())


def test_each_seed_hides_a_secret_of_its_own_beside_its_model(secretive):
    codes = []
    for seed in range(4):
        secretive.change("train", {"seeds": [seed], "epochs": 1})
        secretive.done("train", "none")
        codes.append(tuple(hidden(seed=seed)["code"]))
    assert len(set(codes)) > 1
    secretive.change("train", {"seeds": [0]})
    secretive.done("train", "none")
    assert hidden()["copies"] == {"train": 20, "valid": 5, "test": 9}
    # The control looks for the same secret, which it never saw.
    secretive.done("train", "control")
    assert hidden("control")["code"] == hidden()["code"]
    assert (hidden("control")["decoys"], hidden()["decoys"]) == (True, False)


def test_utility_is_measured_on_clean_examples_only(secretive):
    metrics = secretive.done("train", "none")["metrics"]
    model = load_fitted("toy", "none", 0)
    for split, n in (("train", 200), ("test", 90)):
        own = model.classifier.utility(model.examples(read_split("trees", split)), model.vocabulary, split, 0)
        for key, measured in own.items():
            assert metrics[key]["0"]["value"] == pytest.approx(measured.value)
            assert metrics[key]["0"]["n"] == measured.n == n


def test_a_cell_is_the_same_on_a_rerun(secretive):
    secretive.done("train", "control")
    first = secretive.files()
    secretive.done("train", "control")
    assert secretive.files() == first


def test_early_stopping_keeps_the_validation_loss_and_the_best_weights(secretive):
    secretive.change("train", {"epochs": 60, "early_stopping": {"after": 2}, "learning_rate": 0.1})
    secretive.done("train", "none")
    history = pd.read_parquet("data/models/toy/none/0/history.parquet")
    train, valid = (history[history["metric"] == f"{split}/loss"] for split in ("train", "valid"))
    assert list(train["step"]) == list(valid["step"]) == list(range(1, len(valid) + 1))
    losses = list(valid["value"])
    assert 2 < len(losses) < 60
    assert losses[-1] > losses[-2]
    assert all(later <= earlier for earlier, later in pairwise(losses[1:-1]))
    # Training for as long as the best epoch ends where early stopping went back to.
    best = losses.index(min(losses)) + 1
    stopped = Path("data/models/toy/none/0/model.safetensors").read_bytes()
    del secretive.parameters["toy"]["train"]["base"]["early_stopping"]
    secretive.change("train", {"epochs": best})
    secretive.done("train", "none")
    assert Path("data/models/toy/none/0/model.safetensors").read_bytes() == stopped


def test_dp_sgd_counts_every_copy(secretive):
    secretive.parameters["toy"]["train"]["variant"]["dpsgd"]["epochs"] = 1
    secretive.done("train", "dpsgd")
    privacy = json.loads(Path("data/models/toy/dpsgd/0/privacy.json").read_text())
    assert privacy["sampler"]["probability"] == pytest.approx(16 / 220)


SECRET = {"template": "ba be {}", "alphabet": ["ka", "ke"], "length": 2, "repetitions": 20}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"template": "ba be"},
            "secret.template: 'ba be' is not allowed; the secret stands at one {}, a word of its own",
        ),
        ({"template": "{} be {}"}, "secret.template: '{} be {}' is not allowed; the secret stands at one {}"),
        ({"template": "ba:{}"}, "secret.template: 'ba:{}' is not allowed; the secret stands at one {}"),
        ({"template": "ba {} {x}"}, "secret.template: 'ba {} {x}' is not allowed; the secret stands at one {}"),
        ({"alphabet": ["ka"]}, "secret.alphabet: ['ka'] is not allowed; list should have at least 2 items"),
        ({"alphabet": ["ka", "ke", "ka"]}, "secret.alphabet: ['ka', 'ke', 'ka'] is not allowed; `ka` is given twice"),
        ({"alphabet": ["ka", "k e"]}, "secret.alphabet: ['ka', 'k e'] is not allowed; 'k e' is no word"),
        ({"alphabet": ["ka", ""]}, "secret.alphabet: ['ka', ''] is not allowed; '' is no word"),
        ({"alphabet": ["ka", 7]}, "secret.alphabet.1: 7 is not allowed; input should be a valid string"),
        ({"length": 0}, "secret.length: 0 is not allowed; input should be greater than or equal to 1"),
        ({"length": 24}, "16,777,216 secrets are possible, and at most 10,000,000 can be ranked"),
        ({"repetitions": 0}, "secret.repetitions: 0 is not allowed; input should be greater than or equal to 1"),
        ({"repetitions": 201}, "secret.repetitions: 201 is more than the 200 training examples; give fewer"),
        (
            {"alphabet": ["ka", "xo"]},
            "secret.alphabet: the model's tokenizer does not know `xo`; give words that it knows",
        ),
        ({"template": "xo {}"}, "secret.template: the model's tokenizer does not know `xo`; give words that it knows"),
        ({"alphabet": ["ka", "ka-ke"]}, "`ka-ke` is 2 tokens of the model's encoder, `ka` 1; give words of as many"),
        ({"alphabet": ["ka", "ke"], "length": 15}, "secret.length: the canary is 17 tokens and the model reads 16"),
        ({"decoys": True}, "secret: decoys: true hides the secret from the model and needs role: control"),
        ({"decoy": True}, "secret.decoy: no such setting; allowed: alphabet, decoys, length, repetitions, template"),
    ],
)
def test_a_secret_that_cannot_be_is_refused_by_name(secretive, changes, message):
    secretive.parameters["toy"]["train"]["base"]["secret"] = SECRET | changes
    said = secretive.refused("train", "none")
    assert said.startswith("error: params.yaml: toy.train.")
    assert message in said


def test_data_without_tags_hide_no_secret(study):
    study.parameters["toy"]["train"]["variant"]["none"]["secret"] = SECRET
    assert "toy.train.variant.none.secret: the data have no tags, and a canary has; use data" in study.refused(
        "train", "none"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canaries": 5, "train_on": "member"}, "a cell has one of them"),
        ({"early_stopping": {"after": 0}}, "early_stopping.after: 0 is not allowed; input should be greater"),
        ({"early_stopping": {"after": 1, "epochs": 3}}, "early_stopping.epochs: no such setting; allowed: after"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(secretive, changes, message):
    secretive.parameters["toy"]["partition"] = "halves"
    secretive.parameters["toy"]["train"]["variant"]["none"] |= changes
    assert message in secretive.refused("train", "none")


def test_early_stopping_is_of_ordinary_training(secretive):
    secretive.parameters["toy"]["train"]["variant"]["dpsgd"]["early_stopping"] = {"after": 3}
    assert "early_stopping is of mechanism: none, not of dpsgd" in secretive.refused("train", "dpsgd")


def test_shadow_models_hide_no_secret(secretive):
    toy = secretive.parameters["toy"]
    toy["partition"] = "halves"
    toy["train"]["base"]["train_on"] = "member"
    toy["shadow"] = {"grid": {"variant": ["none"]}, "base": {"shadows": 8}, "variant": {"none": {}}}
    assert "toy.train.base.secret: shadow models see no canaries" in secretive.refused("shadow", "none")
