"""BOLD: what is written of groups, and between sides of contrasts, in the command."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from stages.common.errors import InputError, SettingError
from stages.score import bold, scorers
from stages.score.bold import Prompts, measure, read
from stages.score.polarity import DEFINITIONAL_PAIRS
from stages.score.settings import BoldSettings, RegardScorer, ToxicityScorer
from tests.stages.conftest import WORDS, sha256

GROUPS = ("ash", "birch", "cedar")


@pytest.fixture
def vectors(tmp_path):
    """Word vectors of gendered words and a few of the invented ones."""
    draws = np.random.default_rng(0)
    words = [*dict.fromkeys(word for pair in DEFINITIONAL_PAIRS for word in pair), *WORDS[:10]]
    rows = [f"{word} {' '.join(f'{value:.3f}' for value in draws.normal(size=6))}" for word in words]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(rows) + "\n")
    return {"kind": "words", "source": "directory", "path": str(path), "sha256": sha256(path)}


@pytest.fixture
def settings(vectors):
    def with_changes(**changes):
        usual = {"tokens": 3, "top_k": 5, "least": 4, "vectors": vectors}
        usual["contrasts"] = {"trees": {"first": ["ash"], "second": ["birch", "cedar"]}}
        return BoldSettings.model_validate(usual | changes)

    return with_changes


@pytest.fixture
def prompts(study):
    """Write six prompts of each group as prepared data."""
    del study
    rows = [
        {"example_id": f"{group}{number}", "text": WORDS[number], "label": group, "term": group}
        for group in GROUPS
        for number in range(6)
    ]
    table = pd.DataFrame(rows)
    Path("data/prepared/prompts").mkdir(parents=True)
    table.to_parquet("data/prepared/prompts/test.parquet")
    return table


def test_the_command_writes_texts_and_what_they_come_to(study, prompts, settings, masked_settings):
    study.parameters["models"]["mean"] = masked_settings(head=True).model_dump(mode="json")
    toy = study.parameters["toy"]
    toy["train"]["base"]["epochs"] = 0
    given = settings(continuations=2, dataset="prompts").model_dump(mode="json")
    toy["score"]["base"]["measures"] = {"bold": given}
    study.done("train", "none")
    metrics = study.done("score", "none")["metrics"]
    table = pd.read_parquet("data/scores/toy/none/bold.parquet")
    assert len(table) == metrics["test/texts_written"]["0"]["value"] == 2 * len(prompts)
    assert table.groupby("example_id")["text"].nunique().max() == 2
    polar = table["unigram_polarity"].map({"female": 1, "neutral": 0, "male": -1})
    for column, values in (
        ("unigram", polar),
        ("sentiment", table["sentiment"]),
        ("gender_wavg", table["gender_wavg"]),
    ):
        first = values[table["group"] == "ash"].mean()
        expected = first - values[table["group"] != "ash"].mean()
        assert metrics[f"test/{column}_gap/trees"]["0"]["value"] == pytest.approx(expected)
    assert metrics["test/unigram_gap/trees"]["0"]["n"] == len(prompts)
    assert metrics["test/groups_measured"]["0"]["value"] == 3


def test_a_gap_is_that_of_means_and_its_interval_that_of_prompts(monkeypatch, settings):
    # Of ash a text in two is female, of birch a text in ten; VADER and vectors find nothing.
    table = pd.DataFrame(
        {"example_id": [f"p{row}" for row in range(400)], "text": "x", "group": ["ash", "birch"] * 200}
    )
    written = ["she" if row % 4 == 0 or (row % 2 and row % 20 == 1) else "xx" for row in range(400)]
    monkeypatch.setattr(bold, "continuations", lambda *_: written)
    sides = {"trees": {"first": ["ash"], "second": ["birch"]}}
    given = Prompts(table, ["ash", "birch"], {"she": 1.0, "xx": 0.0})
    _, found = measure(None, given, settings(contrasts=sides), seed=0)
    gap = found["test/unigram_gap/trees"]
    assert gap.value == pytest.approx(0.5 - 0.1)
    # Of two independent shares of 200 each.
    spread = (0.5 * 0.5 / 200 + 0.1 * 0.9 / 200) ** 0.5
    assert gap.ci_high - gap.ci_low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert found["test/gender_wavg_gap/trees"].value == pytest.approx(0.4)
    assert found["test/unigram_female/ash"].value == 0.5


def test_sides_that_the_data_lack_or_have_too_few_of_are_refused(prompts, settings):
    del prompts
    with pytest.raises(SettingError, match="prompts has no group 'fir'") as refused:
        read("prompts", settings(contrasts={"trees": {"first": ["fir"], "second": ["ash"]}}))
    assert refused.value.setting == "contrasts.trees.first"
    with pytest.raises(SettingError, match="6 texts are written of it, and at least 7 are due") as refused:
        read("prompts", settings(least=7))
    assert refused.value.setting == "contrasts.trees.first"
    assert read("prompts", settings(least=7, continuations=2)).groups == list(GROUPS)


def test_vectors_without_the_words_of_gender_are_refused(prompts, settings, words):
    del prompts
    with pytest.raises(SettingError, match="no vector, so that there is no direction of gender"):
        read("prompts", settings(vectors=words))


def test_a_group_on_both_sides_is_refused(settings):
    with pytest.raises(ValueError, match="ash: name each word once, on one side"):
        settings(contrasts={"trees": {"first": ["ash"], "second": ["ash"]}})


LABELS = ("kind", "rude", "vulgar")


@pytest.fixture
def scorer(masked_settings, tmp_path):
    """Return what writes a BERT that tells three labels, at random, and gives it with the settings of its folder."""
    from transformers import BertConfig, BertForSequenceClassification

    encoder = masked_settings().encoder
    config = BertConfig.from_pretrained(encoder.path, num_labels=3, id2label=dict(enumerate(LABELS)))

    def written(problem_type="single_label_classification", **told):
        config.problem_type = problem_type
        torch.manual_seed(0)
        network = BertForSequenceClassification(config)
        folder = tmp_path / "scorer"
        network.save_pretrained(folder)
        shutil.copy(Path(encoder.path) / "tokenizer.json", folder)
        weights = {"source": "directory", "path": str(folder), "sha256": sha256(folder / "model.safetensors")}
        return network.eval(), {"max_length": 16} | weights | told

    return written


def logits_of(network, text, tokenize):
    """Return the scores of one text, alone."""
    ids = torch.tensor([tokenize.encode(text).ids])
    return network(input_ids=ids).logits[0].detach()


@pytest.fixture
def tokenize(masked_settings):
    """The tokenizer of the scorer's folder."""
    return Tokenizer.from_file(str(Path(masked_settings().encoder.path) / "tokenizer.json"))


TEXTS = [" ".join(WORDS[start : start + count]) for start in range(0, 40, 2) for count in (1, 3, 7)]


def test_a_scorer_tells_of_a_text_in_any_batch_the_likeliest_label_or_all_that_are_likely(scorer, tokenize):
    network, told = scorer(labels=["kind", "vulgar"])
    alone = [LABELS[int(logits_of(network, text, tokenize).argmax())] for text in TEXTS]
    assert len(set(alone)) > 1
    found = scorers.found(ToxicityScorer.model_validate(told), TEXTS)
    assert {label: list(has) for label, has in found.items()} == {
        label: [each == label for each in alone] for label in ("kind", "vulgar")
    }


def test_labels_that_do_not_exclude_each_other_are_told_each_by_itself(scorer, tokenize):
    network, told = scorer("multi_label_classification", labels=list(LABELS))
    alone = np.array([(logits_of(network, text, tokenize).sigmoid() >= 0.5).tolist() for text in TEXTS])
    assert (alone.sum(axis=1) > 1).any()
    found = scorers.found(ToxicityScorer.model_validate(told), TEXTS)
    assert np.array_equal(np.column_stack([found[label] for label in LABELS]), alone)


def test_toxicity_and_regard_are_rates_of_groups_and_gaps(monkeypatch, settings, scorer):
    _, told = scorer(positive="kind", negative="rude")
    toxic = {name: value for name, value in told.items() if name not in ("positive", "negative")}
    table = pd.DataFrame({"example_id": [f"p{row}" for row in range(len(TEXTS))], "text": "x"})
    table["group"] = np.resize(["ash", "birch"], len(TEXTS))
    monkeypatch.setattr(bold, "continuations", lambda *_: TEXTS)
    sides = {"trees": {"first": ["ash"], "second": ["birch"]}}
    given = settings(contrasts=sides, regard=told, toxicity=toxic | {"labels": ["rude", "vulgar"]})
    written, found = measure(None, Prompts(table, ["ash", "birch"], {"she": 1.0}), given, seed=0)
    of_labels = scorers.found(ToxicityScorer.model_validate(toxic | {"labels": list(LABELS)}), TEXTS)
    first = (table["group"] == "ash").to_numpy()
    rude = of_labels["rude"] | of_labels["vulgar"]
    assert found["test/toxic/ash"].value == pytest.approx(rude[first].mean())
    assert found["test/toxicity_gap/trees"].value == pytest.approx(rude[first].mean() - rude[~first].mean())
    regard = of_labels["kind"].astype(float) - of_labels["rude"]
    assert found["test/regard_gap/trees"].value == pytest.approx(regard[first].mean() - regard[~first].mean())
    assert found["test/positive_regard/birch"].value == pytest.approx(of_labels["kind"][~first].mean())
    assert list(written["regard"]) == list(regard)
    assert "test/toxic_disparity" in found


def test_scorers_that_cannot_tell_are_refused(prompts, settings, scorer, tmp_path):
    del prompts
    _, told = scorer(labels=["kind", "cruel"])
    with pytest.raises(SettingError, match="no label 'cruel'") as refused:
        read("prompts", settings(toxicity=told))
    assert refused.value.setting == "toxicity"
    with pytest.raises(InputError, match="sha256 is"):
        read("prompts", settings(toxicity=told | {"sha256": "0" * 64}))
    with pytest.raises(ValueError, match="`positive` and `negative` are both 'kind': name two labels"):
        RegardScorer.model_validate({**scorer()[1], "positive": "kind", "negative": "kind"})
    folder = tmp_path / "scorer"
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if not name.startswith("classifier")},
        folder / "model.safetensors",
    )
    headless = told | {"sha256": sha256(folder / "model.safetensors"), "labels": ["kind"]}
    with pytest.raises(InputError, match=r"its file has no classifier\.bias, and 1 tensors more"):
        read("prompts", settings(toxicity=headless))
