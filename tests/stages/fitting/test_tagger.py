"""A tagger of words, characters and a chain is fitted, attacked and loaded by every verb as any other model is."""

import numpy as np
import pandas as pd
import pytest

from stages.models.fitted import load_fitted


@pytest.fixture
def tagged(study, texts, tagger):
    for split, n, seed in (("train", 400, 1), ("valid", 50, 3), ("test", 90, 2)):
        texts(n, tags=True, seed=seed).to_parquet(f"data/prepared/trees/{split}.parquet")
    for model in study.parameters["models"].values():
        model.update(tagger, dropout=0.1)
    return study


def test_it_learns_tags_that_words_tell(tagged):
    assert tagged.done("train", "none")["metrics"]["test/slot_f1"]["0"]["value"] > 0.8


def test_it_is_trained_privately(tagged):
    privately = tagged.done("train", "dpsgd")["metrics"]
    assert 2.9 < privately["train/epsilon"]["0"]["value"] <= 3
    model = load_fitted("toy", "dpsgd", 0).classifier
    assert all(parameter.any() for parameter in (*model.chain.parameters(), *model.characters.parameters()))


def test_it_is_federated_taught_and_attacked(tagged):
    for verb in ("train", "distill"):
        tagged.parameters["toy"][verb]["base"]["epochs"] = 1
    for verb, cell in [("train", "none"), ("federate", "fedavg"), ("distill", "small"), ("attack", "none")]:
        tagged.done(verb, cell)
    scores = pd.read_parquet("data/attacks/toy/none/scores.parquet")
    assert {"loss", "loss/label", "loss/tags"} <= set(scores.columns)
    assert np.isfinite(scores["loss/tags"]).all()
