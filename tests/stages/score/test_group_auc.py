from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stages.common.errors import SettingError
from stages.common.statistics import auc
from stages.models.evaluate import predict
from stages.models.fitted import load_fitted
from stages.results.metrics import METRICS
from stages.score import group_auc as kind
from stages.score.group_auc import generalised_mean, read
from stages.score.settings import GroupAucSettings, ScoreSettings

AREAS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")
BACKGROUNDS = ("jigsaw", "hatexplain")
group_auc = partial(kind.group_auc, power=-5.0)


def table(rows):
    """Return the table of (score, toxic, groups as one string of names)."""
    frame = pd.DataFrame(rows, columns=["score", "toxic", "groups"])
    return frame.assign(groups=frame["groups"].str.split(), example_id=[f"e{row}" for row in range(len(frame))])


def random_table(seed, n=120):
    draws = np.random.default_rng(seed)
    # Two decimals, so that there are ties; an example belongs to none, one, or both groups.
    scores, toxic = draws.random(n).round(2), draws.random(n) < 0.4
    named = draws.choice(["", "a", "b", "a b", "other"], n)
    return table(zip(scores, toxic, named, strict=True))


def by_pairs(positives, negatives):
    return np.mean([(p > q) + 0.5 * (p == q) for p in positives for q in negatives])


def brute_force(frame, group, groups, background):
    inside = np.array([group in named for named in frame["groups"]])
    others = np.array([bool(set(groups) & set(named)) for named in frame["groups"]]) | (background == "jigsaw")
    outside, toxic, score = others & ~inside, frame["toxic"].to_numpy(), frame["score"].to_numpy()
    return {
        "subgroup_auc": by_pairs(score[inside & toxic], score[inside & ~toxic]),
        "bpsn_auc": by_pairs(score[outside & toxic], score[inside & ~toxic]),
        "bnsp_auc": by_pairs(score[inside & toxic], score[outside & ~toxic]),
        "positive_aeg": 0.5 - by_pairs(score[outside & toxic], score[inside & toxic]),
        "negative_aeg": 0.5 - by_pairs(score[outside & ~toxic], score[inside & ~toxic]),
    }


# By hand. Group g has 0.6 toxic and 0.5 not; h has 0.3 toxic and 0.2 not; of no group are 0.9 toxic and 0.7 not.
SMALL = table([(0.6, 1, "g"), (0.5, 0, "g"), (0.3, 1, "h"), (0.2, 0, "h"), (0.9, 1, ""), (0.7, 0, "")]).astype(
    {"toxic": bool}
)


@pytest.mark.parametrize(
    ("values", "mean"), [([0.8] * 9 + [0.5], 0.700078), ([0.9, 0.8], 0.841306), ([0.6, 0.6], 0.6), ([0.7, 0.0], 0.0)]
)
def test_the_generalised_mean_is_that_of_the_card(values, mean):
    assert generalised_mean(np.array(values), -5.0) == pytest.approx(mean, abs=5e-7)


def test_the_generalised_mean_goes_to_the_least_value():
    values = np.array([0.91, 0.74, 0.33, 0.5])
    means = [float(generalised_mean(values, power)) for power in (-0.5, -5, -50, -5000, -50_000)]
    assert means == sorted(means, reverse=True)
    assert means[0] < values.mean()
    assert means[-1] == pytest.approx(values.min(), rel=1e-4)


def test_the_generalised_mean_leaves_out_what_is_not_there():
    values = np.array([[0.9, np.nan, 0.8], [np.nan, np.nan, np.nan], [0.0, np.nan, 0.0]])
    assert generalised_mean(values, -5.0) == pytest.approx([0.841306, np.nan, 0.0], abs=5e-7, nan_ok=True)


@pytest.mark.parametrize("power", [0, 1])
def test_a_power_that_favours_high_values_is_refused(power):
    with pytest.raises(ValueError, match="is to be below 0"):
        generalised_mean(np.array([0.5]), power)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_number_of_a_group_is_that_of_all_pairs(seed, background):
    frame = random_table(seed)
    found = group_auc(frame, ["a", "b"], background, 1, seed=0)
    for group in ("a", "b"):
        for name, value in brute_force(frame, group, ["a", "b"], background).items():
            assert found.measured[f"test/{name}/{group}"].value == pytest.approx(value)
    for name in AREAS:
        of_groups = np.array([found.measured[f"test/{name}/{group}"].value for group in "ab"])
        assert found.measured[f"test/generalised_mean_{name}"].value == pytest.approx(
            np.mean(of_groups**-5.0) ** (-1 / 5)
        )
    positives, negatives = frame["score"][frame["toxic"]], frame["score"][~frame["toxic"]]
    assert found.measured["test/toxicity_auc"].value == pytest.approx(by_pairs(positives, negatives))


def test_the_two_backgrounds_differ_by_the_examples_of_no_group():
    jigsaw = group_auc(SMALL, ["g", "h"], "jigsaw", 1, seed=0).measured
    hatexplain = group_auc(SMALL, ["g", "h"], "hatexplain", 1, seed=0).measured
    assert {name: (jigsaw[f"test/{name}/g"].value, hatexplain[f"test/{name}/g"].value) for name in AREAS} == {
        "subgroup_auc": (1.0, 1.0),
        "bpsn_auc": (0.5, 0.0),
        "bnsp_auc": (0.5, 1.0),
    }
    assert jigsaw["test/background_dropped"].value == 0
    assert hatexplain["test/background_dropped"].value == 2
    # The whole table's AUC drops nothing.
    assert jigsaw["test/toxicity_auc"] == hatexplain["test/toxicity_auc"]


def test_an_example_of_another_group_only_counts_as_one_of_none():
    frame = SMALL.assign(groups=[[name or "elsewhere" for name in named or [""]] for named in SMALL["groups"]])
    for background in BACKGROUNDS:
        assert group_auc(frame, ["g", "h"], background, 1, seed=0).measured == (
            group_auc(SMALL, ["g", "h"], background, 1, seed=0).measured
        )


def test_the_final_score_is_the_mean_of_four_and_jigsaws_alone():
    frame = random_table(3)
    jigsaw = group_auc(frame, ["a", "b"], "jigsaw", 1, seed=0).measured
    four = ["toxicity_auc", *(f"generalised_mean_{name}" for name in AREAS)]
    expected = np.mean([jigsaw[f"test/{name}"].value for name in four])
    assert jigsaw["test/jigsaw_final_score"].value == pytest.approx(expected)
    assert "test/jigsaw_final_score" not in group_auc(frame, ["a", "b"], "hatexplain", 1, seed=0).measured


def test_the_gap_is_half_less_the_mann_whitney_statistic():
    frame = random_table(4)
    found = group_auc(frame, ["a", "b"], "jigsaw", 1, seed=0).measured["test/positive_aeg/a"]
    inside = np.array(["a" in named for named in frame["groups"]])
    own, others = (frame["score"][frame["toxic"] & rows] for rows in (inside, ~inside))
    statistic = stats.mannwhitneyu(others, own).statistic
    assert found.value == pytest.approx(0.5 - statistic / (len(own) * len(others)))
    area = auc(own.to_numpy(), others.to_numpy())
    assert (found.n, found.ci_low, found.ci_high) == (area.n, area.ci_low - 0.5, area.ci_high - 0.5)


def test_a_group_that_scores_higher_has_gaps_above_zero_and_a_low_bpsn():
    frame = random_table(5, n=400)
    shifted = frame.assign(score=frame["score"] + [0.5 * ("a" in named) for named in frame["groups"]])
    found = group_auc(shifted, ["a"], "jigsaw", 1, seed=0).measured
    assert min(found["test/positive_aeg/a"].value, found["test/negative_aeg/a"].value) > 0.3
    assert found["test/bpsn_auc/a"].value < 0.2 < 0.8 < found["test/bnsp_auc/a"].value


def test_examples_hold_what_the_areas_are_means_of():
    frame = random_table(6)
    found = group_auc(frame, ["a", "b"], "jigsaw", 1, seed=0)
    for group, rows in found.examples.groupby("group"):
        toxic = rows["toxic"]
        means = {
            "subgroup_auc": {rows["within_group"][toxic].mean(), rows["within_group"][~toxic].mean()},
            "bnsp_auc": {rows["against_background"][toxic].mean()},
            "bpsn_auc": {rows["against_background"][~toxic].mean()},
        }
        for name, values in means.items():
            expected = found.measured[f"test/{name}/{group}"].value
            assert list(values) == pytest.approx([expected] * len(values))
    of_both = [row for row, named in zip(frame["example_id"], frame["groups"], strict=True) if len(named) == 2]
    assert set(found.examples[found.examples["example_id"].duplicated()]["example_id"]) == set(of_both)


def test_groups_that_cannot_be_measured_are_named_with_their_counts():
    rows = [(0.9, True, "big"), (0.1, False, "big"), (0.8, True, "one-class"), (0.5, True, ""), (0.4, False, "")]
    frame = table([*rows * 5, (0.7, True, "small"), (0.2, False, "small")])
    found = group_auc(frame, ["big", "one-class", "small", "empty"], "jigsaw", 5, seed=0)
    assert found.left_out == {
        "one-class": "5 toxic and 0 other examples, 11 and 11 in the background; each must be at least 5",
        "small": "1 toxic and 1 other examples, 15 and 10 in the background; each must be at least 5",
        "empty": "0 toxic and 0 other examples, 16 and 11 in the background; each must be at least 5",
    }
    assert found.measured["test/groups_measured"].value == 1
    assert found.measured["test/groups_left_out"].value == 3
    assert set(found.examples["group"]) == {"big"}
    assert [key for key in found.measured if key.count("/") == 2 and not key.endswith("/big")] == []


def test_a_background_of_one_class_leaves_its_group_out():
    frame = table([(0.9, True, "a"), (0.1, False, "a"), (0.8, True, "b")] * 3)
    found = group_auc(frame, ["a"], "jigsaw", 1, seed=0)
    assert list(found.left_out) == ["a"]
    assert "3 and 0 in the background" in found.left_out["a"]
    assert set(found.measured) == {
        "test/toxicity_auc",
        "test/groups_measured",
        "test/groups_left_out",
        "test/background_dropped",
    }
    assert len(found.examples) == 0


def test_every_metric_is_known_and_all_but_counts_an_interval():
    found = group_auc(random_table(7), ["a", "b"], "jigsaw", 5, seed=0)
    for key, measured in found.measured.items():
        if METRICS[key.split("/")[1]].unit != "count":
            assert measured.n > 0
            assert measured.ci_low <= measured.value <= measured.ci_high


def test_a_replicate_is_averaged_over_the_groups_that_it_has():
    # With one example of each class a third of the replicates are without it, and some without that of the other group.
    found = group_auc(SMALL, ["g", "h"], "jigsaw", 1, seed=0).measured["test/generalised_mean_subgroup_auc"]
    assert (found.value, found.n, found.ci_low) == (1.0, 6, None)
    frame = pd.concat([SMALL, random_table(8).assign(groups=[["h"]] * 120)])
    assert group_auc(frame, ["g", "h"], "jigsaw", 1, seed=0).measured["test/generalised_mean_subgroup_auc"].ci_low > 0


def test_the_bootstrap_covers_the_generalised_mean():
    # Both groups score alike: scores of toxic examples lie 1 above the others', so that each AUC is Phi(1 / sqrt 2).
    truth, hits = stats.norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(20):
        draws = np.random.default_rng(seed)
        toxic = draws.random(200) < 0.5
        groups = draws.choice(["a", "b"], 200)
        frame = table(zip(draws.normal(size=200) + toxic, toxic, groups, strict=True))
        found = group_auc(frame, ["a", "b"], "jigsaw", 10, seed=seed).measured["test/generalised_mean_bpsn_auc"]
        hits += found.ci_low <= truth <= found.ci_high
    assert hits >= 16


def test_the_same_seed_gives_the_same_interval():
    first, second = (group_auc(random_table(9), ["a", "b"], "jigsaw", 1, seed=3).measured for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("frame", "minimum", "message"),
    [
        (SMALL, 0, "a minimum of 0"),
        (SMALL.assign(score=np.nan), 1, "6 scores are not finite"),
        (SMALL.assign(toxic=True), 1, "of 6 examples 6 are toxic"),
        (SMALL.iloc[:0], 1, "of 0 examples 0 are toxic"),
    ],
)
def test_a_table_without_an_auc_is_refused(frame, minimum, message):
    with pytest.raises(ValueError, match=message):
        group_auc(frame, ["g"], "jigsaw", minimum, seed=0)


def test_groups_that_are_parted_without_an_error_have_no_interval():
    frame = table([(0.9, True, "a"), (0.1, False, "a"), (0.8, True, "b"), (0.2, False, "b")] * 3)
    found = group_auc(frame, ["a", "b"], "jigsaw", minimum=2, seed=0).measured
    for name in ("subgroup_auc/a", "bpsn_auc/b", "positive_aeg/a"):
        assert found[f"test/{name}"].ci_low is found[f"test/{name}"].ci_high is None
    assert found["test/subgroup_auc/a"].value == 1


@pytest.fixture
def named(study):
    """The study, fitted, whose test texts name none, one or two of three groups, of which `few` is named twice."""
    path = Path("data/prepared/trees/test.parquet")
    table = pd.read_parquet(path).drop(columns="group")
    groups = [["north"], [], ["south", "north"], ["south"], []] * 18
    table = table.assign(groups=groups)
    for row in (1, 4):
        table.at[row, "groups"] = ["few"]
    table.to_parquet(path)
    settings = {"positive_labels": ["ash", "birch"], "background": "hatexplain", "minimum": 3}
    study.parameters["toy"]["score"]["base"]["measures"] = {"group_auc": settings}
    study.done("train", "none")
    return study


def settings_of(study):
    return study.parameters["toy"]["score"]["base"]["measures"]["group_auc"]


def test_the_command_writes_the_areas_of_what_the_model_says(named):
    metrics = named.done("score", "none")["metrics"]
    test, fitted = pd.read_parquet("data/prepared/trees/test.parquet"), load_fitted("toy", "none", 0)
    said = np.exp(predict(fitted.classifier, fitted.examples(test)).label_log_probabilities)
    score = 1 - said[:, fitted.vocabulary.labels.index("cedar")]
    frame = test.assign(score=score, toxic=test["label"] != "cedar")
    for group in ("north", "south"):
        for name, value in brute_force(frame, group, ["few", "north", "south"], "hatexplain").items():
            assert metrics[f"test/{name}/{group}"]["0"]["value"] == pytest.approx(value)
    assert metrics["test/group_auc_left_out/few"]["0"]["value"] == 2
    assert metrics["test/groups_left_out"]["0"]["value"] == 1
    assert metrics["test/background_dropped"]["0"]["value"] == 34
    table = pd.read_parquet("data/scores/toy/none/group_auc.parquet")
    assert table.groupby("group").size().to_dict() == {"north": 36, "south": 36}
    assert set(table["seed"]) == {0}
    assert {key.split("/")[1] for key in metrics} <= set(METRICS)


def test_only_groups_that_are_named_are_compared_and_make_a_background(named):
    settings_of(named)["groups"] = ["north"]
    metrics = named.done("score", "none")["metrics"]
    # Of one group alone HateXplain's background is empty.
    assert metrics["test/group_auc_left_out/north"]["0"]["value"] == 36
    assert metrics["test/background_dropped"]["0"]["value"] == 90 - 36
    settings_of(named)["background"] = "jigsaw"
    assert "test/bpsn_auc/north" in named.done("score", "none")["metrics"]


def test_the_power_is_that_of_the_means(named):
    settings_of(named)["power"] = -1.0
    metrics = named.done("score", "none")["metrics"]
    areas = [metrics[f"test/bpsn_auc/{group}"]["0"]["value"] for group in ("north", "south")]
    assert metrics["test/generalised_mean_bpsn_auc"]["0"]["value"] == pytest.approx(stats.hmean(areas))


def test_a_column_of_one_group_of_each_text_does(study):
    given = GroupAucSettings.model_validate({"positive_labels": ["ash"], "background": "jigsaw", "minimum": 3})
    texts = read("trees", given)
    assert texts.groups == ["north", "south"]
    assert texts.about["groups"].tolist() == [["north"], ["south"]] * 45
    assert texts.about["toxic"].equals(texts.test["label"] == "ash")


def test_two_runs_of_the_command_are_byte_identical(named):
    named.done("score", "none")
    first = named.files()
    named.done("score", "none")
    assert named.files() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_labels": ["oak"]}, "positive_labels: 'oak' is no label of the test texts of trees; allowed: ash, "),
        (
            {"positive_labels": ["ash", "birch", "cedar"]},
            "positive_labels: all test texts of trees have one of these; leave a label out",
        ),
        ({"positive_labels": ["ash", "ash"]}, "ash: name each once"),
        ({"positive_labels": []}, "positive_labels: [] is not allowed"),
        ({"groups": ["west"]}, "groups: no test text of trees names 'west'; allowed: few, north, south"),
        ({"background": "all"}, "background: 'all' is not allowed"),
        ({"minimum": 0}, "minimum: 0 is not allowed"),
        ({"power": 0.0}, "power: 0.0 is not allowed"),
    ],
)
def test_settings_that_measure_nothing_are_refused(named, changes, message):
    settings_of(named).update(changes)
    assert message in named.refused("score", "none")


def test_data_without_groups_are_refused(named):
    path = Path("data/prepared/trees/test.parquet")
    pd.read_parquet(path).drop(columns="groups").to_parquet(path)
    with pytest.raises(SettingError, match="trees has no column `groups`, which is read"):
        read("trees", GroupAucSettings.model_validate(settings_of(named)))


def test_a_language_model_is_refused(named, byte_settings):
    measures = {"group_auc": settings_of(named)}
    score = ScoreSettings.model_validate({"dataset": "trees", "seeds": [0], "measures": measures})
    with pytest.raises(SettingError, match="`group_auc` measures classifiers, and `none` has"):
        score.check("none", byte_settings)
