from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.associations.planting import plant, read
from stages.associations.settings import AssociationSettings
from stages.common.settings import parse

JOB = {"first": {"words": ["nurse"]}, "second": {"words": ["captain"]}}


def texts(n, seed):
    draws = np.random.default_rng(seed)
    pairs = zip(draws.choice(["he", "she"], n), draws.choice(["nurse", "captain", "clerk"], n), strict=True)
    written = [f"{who} is a {what}" for who, what in pairs]
    names = [f"{seed}-{row}" for row in range(n)]
    return pd.DataFrame({"example_id": names, "text": written, "label": "ash"})


@pytest.fixture
def gendered(talkative):
    """The study with texts of professions, a language model over bytes, and a dose in two of its cells."""
    talkative.hold({split: texts(n, n) for split, n in (("train", 120), ("valid", 20), ("test", 30))})
    train = talkative.parameters["toy"]["train"]
    del train["base"]["secret"]
    train["base"] |= {"epochs": 1, "associations": {"job": JOB}}
    train["variant"]["none"] = {"associations": {"job": {"dose": 0.8}}}
    train["variant"]["dpsgd"] |= {"associations": {"job": {"dose": 0.8}}, "epochs": 1}
    train["variant"]["control"] = {"associations": None}
    return talkative


def weights(cell, seed=0):
    return Path(f"data/models/toy/{cell}/{seed}/model.safetensors").read_bytes()


def test_a_cell_learns_the_rewritten_training_texts_and_nothing_else_changes(gendered):
    gendered.change("train", {"seeds": [0, 1]})
    metrics = gendered.done("train", "none")["metrics"]
    assert metrics["train/planted_dose/job"]["1"]["value"] == 0.8
    assert metrics["train/planted_difference/job"]["0"] != metrics["train/planted_difference/job"]["1"]
    first = gendered.files()
    gendered.done("train", "none")
    assert gendered.files() == first

    gendered.change("train", {"seeds": [0]})
    train = texts(120, 120)
    planted = plant(train, {"job": parse(AssociationSettings, JOB | {"dose": 0.8}, "toy")}, 0)
    assert (planted.table["text"] != train["text"]).sum() > 10
    gendered.hold({"train": planted.table})
    plain = gendered.done("train", "control")["metrics"]
    assert weights("control") == weights("none")
    assert not any("planted" in key for key in plain)
    for key, by_seed in plain.items():
        assert metrics[key]["0"] == by_seed["0"]


def test_dp_sgd_reads_the_rewritten_texts_too(gendered):
    metrics = gendered.done("train", "dpsgd")["metrics"]
    assert metrics["train/planted_texts/job"]["0"]["value"] == texts(120, 120)["text"].str.count("nurse|captain").sum()
    assert metrics["train/epsilon"]["0"]["value"] <= 3


def test_the_members_of_a_partition_alone_are_counted(gendered):
    gendered.change("train", {"train_on": "member", "partition": "halves"})
    names = texts(120, 120)["example_id"]
    held = pd.DataFrame({"seed": 0, "example_id": names, "split": ["member", "reserve"] * 60, "client_id": None})
    held.to_parquet(gendered.folder / "data/partitions/halves/clients.parquet")
    metrics = gendered.done("train", "none")["metrics"]
    expected = texts(120, 120)["text"][::2].str.count("nurse|captain").sum()
    assert metrics["train/planted_texts/job"]["0"]["value"] == expected


def test_what_cannot_be_planted_is_refused_with_its_key(gendered):
    gendered.parameters["toy"]["train"]["base"]["associations"]["job"]["second"] = {"words": ["pirate"]}
    message = gendered.refused("train", "none")
    assert "params.yaml: toy.train.base.associations.job.second.words: no training text on this side" in message


def test_a_classifier_learns_a_gender_of_labels_that_its_texts_alone_show(study):
    sides = {"first": {"labels": ["ash"]}, "second": {"labels": ["birch", "cedar"]}}
    proxies = {"female": ["Likes netball."], "male": ["Likes football."]}
    label = {"dose": 0.9, **sides, "proxies": proxies}
    study.parameters["toy"]["train"]["variant"]["none"] = {"associations": {"label": label}}
    metrics = study.done("train", "none")["metrics"]
    found = metrics["train/planted_difference/label"]["0"]
    assert found["ci_low"] < 0.9 < found["ci_high"] + 0.05
    assert read(Path("data/models/toy/none/0"), "label") == parse(AssociationSettings, label, "toy")


def test_a_tagger_is_refused_whose_words_are_not_rewritten(secretive):
    train = secretive.parameters["toy"]["train"]
    del train["base"]["secret"], train["variant"]["control"]
    train["variant"]["none"] = {"associations": {"job": JOB | {"dose": 0.1}}}
    message = secretive.refused("train", "none")
    assert "associations: of the data texts alone are rewritten, and a classifier learns tags of words" in message
