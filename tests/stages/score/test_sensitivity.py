from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.models.fitted import load_fitted
from stages.score import token_map
from stages.score.sensitivity import LEXICON, RANDOM, UNIFORM
from stages.sensitivity.gradients import jacobian

# Half of the invented texts are of a he or a she, whom the invented words do not tell.
SWAPS = "he\tshe\nhim\ther\nhis\ther\n"
CORPUS = {"first": {"labels": ["ash"]}, "second": {"labels": ["birch", "cedar"]}}
PROXIES = {"female": ["lu lo"], "male": ["gu go"]}


@pytest.fixture
def measured(study, texts):
    """The study with gendered texts, a dose in its cell `none`, and its sensitivity by a status model and without."""
    for split, (n, seed) in {"train": (300, 1), "valid": (30, 3), "test": (120, 2)}.items():
        table = texts(n, seed=seed, preference=0.7)
        who = np.random.default_rng(seed).choice(["he", "she"], n)
        table["text"] = [f"{one} {text}" for one, text in zip(who, table["text"], strict=True)]
        table["text"] = table["text"].mask(np.arange(n) % 10 == 0, table["text"] + " his her")
        table.to_parquet(study.folder / f"data/prepared/trees/{split}.parquet")
    (study.folder / "swaps.txt").write_text(SWAPS)
    study.parameters["models"]["mean"] |= {"head": "bilstm", "hidden": 12}
    toy = study.parameters["toy"]
    del toy["partition"]
    toy["train"]["base"] |= {"train_on": "train", "epochs": 12, "associations": {"corpus": CORPUS}}
    toy["train"]["grid"]["variant"] = ["none", "control", "status"]
    toy["train"]["variant"] = {
        "none": {"associations": {"corpus": {"dose": 0.9, "proxies": PROXIES}}},
        "control": {"role": "control", "associations": {"corpus": {"dose": 0.0}}},
        "status": {"associations": None},
    }
    toy["score"]["grid"]["variant"] = ["none", "control"]
    toy["score"]["variant"] = {"none": {}, "control": {}}
    toy["score"]["base"]["measures"] = {
        "sensitivity": {
            "swaps": {"paths": ["swaps.txt"]},
            "status": {"status": "toy/status"},
            "association": "corpus",
            "minimum": 3,
        }
    }
    for cell in ("none", "control", "status"):
        study.done("train", cell)
    return study


def scores(study, cell="none"):
    metrics = {key: by_seed["0"] for key, by_seed in study.done("score", cell)["metrics"].items()}
    return metrics, pd.read_parquet(f"data/scores/toy/{cell}/sensitivity.parquet")


def test_every_text_that_can_be_written_in_either_gender_has_a_value_of_each(measured):
    metrics, table = scores(measured)
    assert len(table) == 120
    assert metrics["test/texts_of_no_single_gender"]["value"] == 0
    for name in (UNIFORM, RANDOM, "status"):
        found = metrics[f"test/prediction_sensitivity/{name}"]
        assert found["value"] == pytest.approx(table[f"prediction_sensitivity/{name}"].mean())
        assert found["ci_low"] < found["value"] < found["ci_high"]
        assert found["n"] == 120
        by_token = table[f"tokens/{name}"].map(sum)
        np.testing.assert_allclose(by_token, table[f"prediction_sensitivity/{name}"])
        relative = table[f"prediction_sensitivity/{name}"] / table["prediction_sensitivity/uniform"]
        np.testing.assert_allclose(table[f"relative_sensitivity/{name}"], relative)
    # Scrubbed texts have no word of the lexicon, which is said and not taken for fairness.
    assert metrics[f"test/texts_without_weights/{LEXICON}"]["value"] == 120
    assert f"test/prediction_sensitivity/{LEXICON}" not in metrics
    assert not table["counterfactual_difference"].any()
    assert "test/counterfactual_difference" not in metrics


def test_texts_of_both_genders_are_left_out_where_words_tell_it(measured):
    metrics, table = scores(measured, "control")
    assert metrics["test/texts_of_no_single_gender"]["value"] == 12 == 120 - len(table)
    assert metrics[f"test/texts_without_weights/{LEXICON}"]["value"] == 0
    # By the lexicon it is a column of joint tables too.
    assert metrics["test/prediction_sensitivity"] == metrics[f"test/prediction_sensitivity/{LEXICON}"]
    assert set(table["gender"]) == {"female", "male"}


def test_what_depends_on_gender_is_what_another_gender_decides_otherwise(measured):
    metrics, table = scores(measured)
    model = load_fitted("toy", "none", 0)
    labels = np.array(model.vocabulary.labels)
    decided = {}
    for gender, opening in (("female", "lu lo"), ("male", "gu go")):
        test = pd.read_parquet("data/prepared/trees/test.parquet")
        test["text"] = [f"{opening} {text.replace('she ', '_ ').replace('he ', '_ ')}" for text in test["text"]]
        test["text"] = test["text"].str.replace(" his her", " _ _")
        found = jacobian(model.classifier, model.examples(test).text)
        decided[gender] = labels[found.predicted]
        own = (table["gender"] == gender).to_numpy()
        assert (table["predicted"][own] == decided[gender][own]).all()
        np.testing.assert_allclose(table["confidence"][own], found.probabilities.max(axis=1)[own], rtol=1e-5)
    assert (table["depends"] == (decided["female"] != decided["male"])).all()
    assert metrics["test/decisions_by_gender"]["value"] == table["depends"].mean() > 0.1


def test_detection_is_measured_where_either_side_has_examples_enough(measured):
    metrics, table = scores(measured)
    assert metrics["test/counterfactual_auc"]["value"] == 0.5
    gain = metrics["test/sensitivity_auc_gain/status"]
    assert gain["value"] == pytest.approx(metrics["test/sensitivity_auc/status"]["value"] - 0.5)
    assert gain["ci_low"] < gain["value"] < gain["ci_high"]
    assert metrics["test/sensitivity_correlation/uniform"]["value"] == pytest.approx(
        np.corrcoef(table["prediction_sensitivity/uniform"], table["depends"])[0, 1]
    )
    measured.parameters["toy"]["score"]["base"]["measures"]["sensitivity"]["minimum"] = 119
    few, _ = scores(measured)
    assert not any("auc" in key or "correlation/" in key for key in few if "rank" not in key)
    assert few["test/decisions_by_gender"] == metrics["test/decisions_by_gender"]


def test_without_an_association_texts_are_measured_as_they_are(measured):
    measured.parameters["toy"]["score"]["base"]["measures"]["sensitivity"] = {"swaps": {"paths": ["swaps.txt"]}}
    metrics, table = scores(measured)
    test = pd.read_parquet("data/prepared/trees/test.parquet")
    assert table["example_id"].tolist() == test["example_id"].tolist()
    assert not any("status" in key or "auc" in key or "gender" in key for key in metrics)
    model = load_fitted("toy", "none", 0)
    found = jacobian(model.classifier, model.examples(test).text)
    np.testing.assert_allclose(
        table["prediction_sensitivity/uniform"] * table["tokens"].map(len), found.norms[:, 0].sum(axis=1)
    )


def test_the_same_command_writes_the_same_bytes(measured):
    scores(measured)
    first = measured.files()
    scores(measured)
    assert measured.files() == first


def test_what_cannot_be_measured_is_refused_with_its_key(measured):
    block = measured.parameters["toy"]["score"]["base"]["measures"]["sensitivity"]
    block["association"] = "race"
    message = measured.refused("score", "none")
    assert "toy.score.base.measures.sensitivity.association: was trained without an association `race`" in message
    assert "there are: corpus" in message
    block |= {"association": "corpus", "status": {"uniform": "toy/status"}}
    assert "`uniform` in `status` is the name of other weights" in measured.refused("score", "none")
    block["status"] = {"status": "status"}
    assert "status.status: 'status' is not allowed" in measured.refused("score", "none")
    block["status"] = {"status": "toy/nobody"}
    assert "data/models/toy/nobody: no such file" in measured.refused("score", "none")


def test_a_penalty_lowers_what_it_holds_down(measured):
    train = measured.parameters["toy"]["train"]
    train["base"]["status"] = "toy/status"
    train["variant"]["none"] |= {"sensitivity_penalty": 0.0}
    plain = measured.done("train", "none")["metrics"]
    assert plain["train/sensitivity_penalty"]["0"]["value"] == 0
    weights = Path("data/models/toy/none/0/model.safetensors").read_bytes()
    before, _ = scores(measured)
    train["variant"]["none"] |= {"sensitivity_penalty": 10.0}
    measured.done("train", "none")
    after, _ = scores(measured)
    assert Path("data/models/toy/none/0/model.safetensors").read_bytes() != weights
    lowered = (
        after["test/prediction_sensitivity/status"]["value"] / before["test/prediction_sensitivity/status"]["value"]
    )
    assert lowered < 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensitivity_penalty": 1.0}, "`sensitivity_penalty` needs `status`, and does nothing without it"),
        ({"status": "toy/status"}, "`status` needs `sensitivity_penalty`"),
        ({"status": "toy/status", "sensitivity_penalty": -1.0}, "should be greater than or equal to 0"),
        ({"status": "toy/other", "sensitivity_penalty": 1.0}, "data/models/toy/other: no such file"),
    ],
)
def test_a_penalty_that_cannot_be_is_refused(measured, changes, message):
    train = measured.parameters["toy"]["train"]
    for name, value in changes.items():
        (train["base"] if name == "status" else train["variant"]["none"])[name] = value
    assert message in measured.refused("train", "none")


def test_a_status_model_of_other_tokens_is_refused_in_training(measured):
    train = measured.parameters["toy"]["train"]
    measured.parameters["models"]["mean"]["max_length"] = 12
    train["base"]["status"] = "toy/status"
    train["variant"]["none"] |= {"sensitivity_penalty": 1.0}
    message = measured.refused("train", "none")
    assert "toy.train.base.status: `toy/status` reads texts as other tokens than this cell's model does" in message


def test_a_page_shades_the_tokens_of_some_texts(measured):
    _, table = scores(measured)
    page = Path("data/scores/toy/none/token_map.html").read_text(encoding="utf-8")
    assert page.count("<section>") == token_map.SHOWN
    assert page.count("<tr>") == 4 * token_map.SHOWN
    assert "<h1>Prediction sensitivity, seed 0</h1>" in page
    # The token that has most of P is the darkest of its row, and one without a weight has no shade.
    first = table.iloc[0]
    darkest = first["tokens"][int(np.argmax(first["tokens/status"]))]
    assert f'rgb(0 114 178 / 100%)" class="dark" title="{max(first["tokens/status"]):.2g}">{darkest}<' in page
    assert "rgb(0 114 178 / 0%)" in page
    rows = table.head(1).assign(tokens=[["<b>"] * len(first["tokens"])])
    assert "<b>" not in token_map.page(rows, "a & b")
    assert "<h1>a &amp; b</h1>" in token_map.page(rows, "a & b")
