import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def trained_by_heart(study, *cells):
    """Train a model that is large for its data, long enough to learn the secret."""
    study.parameters["models"]["mean"]["hidden"] = 32
    study.change("train", {"epochs": 12})
    for cell in cells:
        study.done("train", cell)


def test_the_secret_is_extracted_from_a_model_that_saw_it_and_not_from_the_control(secretive):
    trained_by_heart(secretive, "none", "control")
    found = {cell: secretive.done("extract", cell)["metrics"] for cell in ("none", "control")}
    assert found["none"]["canaries/canary_accuracy"]["0"]["value"] == 1
    assert found["none"]["canaries/oracle_accuracy"]["0"]["value"] == 1
    assert found["control"]["canaries/canary_accuracy"]["0"]["value"] == 0
    assert found["none"]["canaries/canary_exposure"]["0"]["value"] == pytest.approx(np.log2(25))
    assert found["control"]["canaries/canary_exposure"]["0"]["value"] < 3


def test_metrics_agree_with_the_trials_and_nothing_else_is_written(secretive):
    secretive.change("train", {"seeds": [0, 1]})
    secretive.change("extract", {"seeds": [0, 1]})
    secretive.done("train", "control")
    models = {name: content for name, content in secretive.files().items() if name.startswith("data/models")}
    before = set(secretive.files())
    content = secretive.done("extract", "control")
    assert set(secretive.files()) - before == {
        "data/extractions/toy/control/trials.parquet",
        "reports/metrics/toy/control/extract.json",
    }
    assert models.items() <= secretive.files().items()
    assert content["about"]["role"] == "control"
    trials = pd.read_parquet("data/extractions/toy/control/trials.parquet")
    assert (trials["answer_loss"] >= trials["oracle_loss"]).all()
    assert (trials["secret_loss"] >= trials["oracle_loss"]).all()
    metrics = content["metrics"]
    for trial in trials.itertuples():
        secret = json.loads(Path(f"data/models/toy/control/{trial.seed}/secret.json").read_text())
        assert trial.secret.split() == [secret["alphabet"][index] for index in secret["code"]]
        wrong = [one != other for one, other in zip(trial.secret.split(), trial.answer.split(), strict=True)]
        extracted, oracle = float(not any(wrong)), float(trial.oracle == trial.secret)
        expected = {
            "canary_accuracy": extracted,
            "canary_token_accuracy": 1 - np.mean(wrong),
            "canary_hamming": np.mean(wrong),
            "canary_exposure": np.log2(25) - np.log2(trial.rank),
            "oracle_accuracy": oracle,
            "oracle_gap": oracle - extracted,
            "oracle_loss_gap": trial.answer_loss - trial.oracle_loss,
            "canary_repetitions": secret["copies"]["train"],
            "chance_canary_accuracy": 1 / 25,
            "chance_canary_token_accuracy": 1 / 5,
            "chance_canary_hamming": 4 / 5,
            "chance_canary_exposure": np.mean(np.log2(25) - np.log2(np.arange(1, 26))),
        }
        for name, value in expected.items():
            assert metrics[f"canaries/{name}"][str(trial.seed)]["value"] == pytest.approx(value), name
    assert set(metrics) == {f"canaries/{name}" for name in expected}
    assert metrics["canaries/canary_accuracy"]["0"]["n"] == 1


def test_a_rerun_gives_the_same_bytes(secretive):
    secretive.parameters["toy"]["extract"]["base"]["search"]["gumbel"] = True
    secretive.done("train", "none")
    secretive.done("extract", "none")
    first = secretive.files()
    secretive.done("extract", "none")
    assert secretive.files() == first


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"steps": 0}, "toy.extract.base.search.steps: 0 is not allowed; input should be greater than or equal to 1"),
        ({"starts": 0}, "toy.extract.base.search.starts: 0 is not allowed; input should be greater than or equal to 1"),
        (
            {"temperature": 0.0},
            "toy.extract.base.search.temperature: 0.0 is not allowed; input should be greater than 0",
        ),
        (
            {"learning_rate": -1.0},
            "toy.extract.base.search.learning_rate: -1.0 is not allowed; input should be greater than 0",
        ),
        ({"gumbel": 1}, "toy.extract.base.search.gumbel: 1 is not allowed; input should be a valid boolean"),
        ({"noise": 1}, "toy.extract.base.search.noise: no such setting; allowed: gumbel, kind, label_knowledge"),
        ({"kind": "beam"}, "toy.extract.base.search: {'kind': 'beam', "),
        (
            {"kind": "tokens"},
            "toy.extract.base.search.steps: no such setting; allowed: kind, label_knowledge, passes, starts",
        ),
    ],
)
def test_a_wrong_setting_of_the_search_is_one_line(secretive, search, message):
    secretive.parameters["toy"]["extract"]["base"]["search"] |= search
    assert message in secretive.refused("extract", "none")


def test_a_seed_without_a_model_is_one_line(secretive):
    secretive.done("train", "none")
    secretive.change("extract", {"seeds": [4]})
    message = "data/models/toy/none/4/secret.json: no such file; run `dvc repro`"
    assert message in secretive.refused("extract", "none")


def test_a_cell_of_another_name_attacks_the_same_models(secretive):
    extract = secretive.parameters["toy"]["extract"]
    extract["grid"]["variant"].append("again")
    extract["variant"]["again"] = {"target": "control", "role": "model"}
    secretive.done("train", "control")
    first, again = (secretive.done("extract", cell) for cell in ("control", "again"))
    assert again["metrics"] == first["metrics"]
    assert [content["about"]["role"] for content in (first, again)] == ["control", "model"]
    assert again["about"]["cell"] == "again"
    assert again["about"]["command"] == "python -m stages.extract --study toy --cell again"
    assert again["about"]["inputs_sha256"] == first["about"]["inputs_sha256"]


def test_an_attacker_by_the_intent_alone_takes_no_gradients(secretive):
    secretive.parameters["toy"]["extract"]["variant"]["none"]["search"] = {"kind": "tokens", "starts": 2}
    secretive.done("train", "none")
    secretive.done("extract", "none")
    trials = pd.read_parquet("data/extractions/toy/none/trials.parquet")
    assert trials["steps"].max() < 10


def test_a_model_that_reads_tokens_in_context_is_refused(secretive, bert):
    secretive.parameters["models"]["mean"] |= {"encoder": bert, "head": "mean"}
    secretive.done("train", "none")
    message = "toy.extract.grid: the model represents a token by its neighbours too, and candidates cannot be mixed"
    assert message in secretive.refused("extract", "none")


def test_a_language_model_exposes_what_it_saw_many_times_and_not_what_it_never_saw(talkative):
    found = {}
    for cell in ("none", "control"):
        talkative.done("train", cell)
        found[cell] = talkative.done("extract", cell)["metrics"]
    for metric in ("canary_accuracy", "oracle_accuracy"):
        assert found["none"][f"canaries/{metric}"]["0"]["value"] == 1
        assert found["control"][f"canaries/{metric}"]["0"]["value"] == 0
    assert found["none"]["canaries/canary_exposure"]["0"]["value"] == pytest.approx(np.log2(25))
    assert found["control"]["canaries/canary_exposure"]["0"]["value"] < 3
    assert found["none"]["canaries/chance_canary_accuracy"]["0"]["value"] == 1 / 25
    first = talkative.files()
    talkative.done("train", "none")
    talkative.done("extract", "none")
    assert talkative.files() == first


def test_adapters_of_a_pretrained_model_are_trained_and_read_again(talkative, llama):
    talkative.parameters["models"]["mean"] |= {"network": llama}
    secret = {"template": "ba {}", "alphabet": ["ka", "ke", "ki"], "length": 2, "repetitions": 40}
    talkative.change("train", {"epochs": 1, "secret": secret})
    talkative.done("train", "none")
    trial = talkative.done("extract", "none")["metrics"]
    assert trial["canaries/chance_canary_accuracy"]["0"]["value"] == 1 / 9


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ({"template": "ba xo {}"}, "toy.train.base.secret.template: the model's tokenizer does not know `xo`"),
        ({"alphabet": ["ka", "xo"]}, "toy.train.base.secret.alphabet: the model's tokenizer does not know `xo`"),
        (
            {"alphabet": ["ka", "ka-"]},
            "toy.train.base.secret.alphabet: the model's tokenizer takes `ka-` for another entry",
        ),
        ({"alphabet": ["ka", "ke-ki"], "length": 16}, "secret.length: the canary is 34 tokens and the model reads 32"),
    ],
)
def test_words_that_a_language_model_cannot_hold_are_refused(talkative, llama, secret, message):
    talkative.parameters["models"]["mean"] |= {"network": llama}
    usual = {"template": "ba {}", "alphabet": ["ka", "ke"], "length": 2, "repetitions": 40}
    talkative.change("train", {"secret": usual | secret})
    assert message in talkative.refused("train", "none")


def test_settings_of_the_search_are_not_of_a_language_model(talkative):
    talkative.change("train", {"epochs": 1})
    talkative.done("train", "none")
    talkative.change("extract", {"search": {"kind": "tokens"}})
    message = "toy.extract.base.search: is of a classifier; remove it: these are language models"
    assert message in talkative.refused("extract", "none")
