"""BOLD: what is written of groups, and between sides of contrasts, in the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import SettingError
from stages.score import bold
from stages.score.bold import Prompts, measure, read
from stages.score.polarity import DEFINITIONAL_PAIRS
from stages.score.settings import BoldSettings
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
