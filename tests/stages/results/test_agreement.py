import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.report.agreement import agreement_figures, agreement_tables
from stages.report.settings import agreement as read
from stages.results.agreement import Admission, Agreement, AgreementSettings, Axis, agreement
from stages.results.long_table import COLUMNS
from stages.results.metrics import METRICS

# Metrics there are, of each orientation: a dose, one with a target, one to be small, one to be great.
DOSE, OTHER_DOSE = "train/canary_repetitions", "train/examples"
INTRINSIC = "test/stereotype_score/gender"
EXTRINSIC = "test/true_positive_rate_gap"
UTILITY = "test/language_modeling_score"


def long(values: dict[str, dict[str, list[float]]], verb: str = "score") -> pd.DataFrame:
    """Return the long table of metric key -> cell -> a value of each seed."""
    rows = []
    for key, cells in values.items():
        split, metric, *group = key.split("/", 2)
        described = {"split": split, "metric": metric, "group": group[0] if group else None}
        described |= {"study": "bias", "verb": verb, "unit": METRICS[metric].unit}
        for cell, seeds in cells.items():
            rows += [described | {"cell": cell, "seed": seed, "value": value} for seed, value in enumerate(seeds)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def asked(**changed: Any) -> AgreementSettings:
    axis = {"dose": DOSE, "signed": True, "intrinsic": [INTRINSIC], "extrinsic": [EXTRINSIC]}
    return AgreementSettings.model_validate({"axes": {"gender": axis}} | changed)


def of_models(values: np.ndarray, noise: float = 0.0, seeds: int = 1, seed: int = 0) -> dict[str, list[float]]:
    draws = np.random.default_rng(seed).normal(0, noise, size=(len(values), seeds))
    return {f"m{place}": list(row) for place, row in enumerate(values[:, None] + draws)}


def study(n: int = 12, noise: float = 0.0, seeds: int = 1, shared: float = 2.0, own: float = 1.0) -> pd.DataFrame:
    """Return models whose metrics rise with their dose, and else have nothing in common."""
    dose = np.linspace(-1, 1, n)
    drawn = np.random.default_rng(n).normal(0, own, size=(2, n))
    return long(
        {
            DOSE: of_models(dose),
            INTRINSIC: of_models(50 + shared * dose + drawn[0], noise, seeds, 2 * n),
            EXTRINSIC: of_models(shared * dose + drawn[1], noise, seeds, 2 * n + 1),
        }
    )


def test_scores_are_oriented_so_that_bigger_is_more_biased() -> None:
    table = long({DOSE: of_models(np.arange(4.0)), INTRINSIC: of_models(np.array([40.0, 60, 45, 50]))})
    table = pd.concat([table, long({UTILITY: of_models(np.arange(4.0))})])

    def orientations(signed: bool) -> dict[str, str]:
        axis = Axis(dose=DOSE, signed=signed, intrinsic=[INTRINSIC], extrinsic=[UTILITY, DOSE])
        noise = agreement(table, AgreementSettings(axes={"a": axis})).noise
        return dict(zip(noise["metric"], noise["orientation"], strict=True))

    assert orientations(True) == {INTRINSIC: "value - 50", UTILITY: "negated", DOSE: "as it is"}
    assert orientations(False)[INTRINSIC] == "|value - 50|"
    distances = agreement(table, asked(axes={"a": asked().axes["gender"].model_dump() | {"signed": False}})).noise
    assert distances["between"][0] == pytest.approx(np.std([10, 10, 5, 0], ddof=1))
    rising = agreement(table, AgreementSettings(axes={"a": Axis(dose=DOSE, intrinsic=[UTILITY], extrinsic=[DOSE])}))
    assert rising.pairs["pearson"][0] == pytest.approx(-1)


def test_a_shared_dose_alone_makes_metrics_agree_and_holding_it_fixed_takes_that_away() -> None:
    partial = []
    for n in range(30, 50):
        pair = agreement(study(n, own=0.4), asked()).pairs.iloc[0]
        assert pair["spearman"] > 0.7
        assert pair["significant"]
        partial.append(pair["partial"])

    # Of n models the partial correlation has a standard error of about 1 / sqrt(n - 3).
    assert abs(np.mean(partial)) < 4 / math.sqrt(37 * len(partial))


def test_the_planted_truth_is_found_on_its_own_axis_and_not_on_the_other() -> None:
    n = 24
    other = np.tile([0.0, 1.0], n // 2)
    table = pd.concat([study(n, own=0.3), long({OTHER_DOSE: of_models(other)})])
    axes = asked().axes | {
        "age": Axis(dose=OTHER_DOSE, intrinsic=["test/false_positive_rate_gap"], extrinsic=[UTILITY])
    }
    drawn = np.random.default_rng(0).normal(0, 0.1, size=(2, n))
    table = pd.concat(
        [table, long({"test/false_positive_rate_gap": of_models(3 * other + drawn[0]), UTILITY: of_models(other)})]
    )

    truth = agreement(table, AgreementSettings(axes=axes)).truth.set_index(["metric", "dose"])

    assert truth["verdict"].to_dict() == {
        (INTRINSIC, "gender"): "rises",
        (INTRINSIC, "age"): "not shown",
        (EXTRINSIC, "gender"): "rises",
        (EXTRINSIC, "age"): "not shown",
        ("test/false_positive_rate_gap", "gender"): "not shown",
        ("test/false_positive_rate_gap", "age"): "rises",
        # Better where it is greater, and so less biased.
        (UTILITY, "gender"): "not shown",
        (UTILITY, "age"): "falls",
    }
    [(low, slope, high)] = truth.loc[truth["slope"] > 2.5, ["slope_low", "slope", "slope_high"]].to_numpy()
    assert low < slope < high
    assert slope == pytest.approx(3, abs=0.2)
    assert truth["own"].sum() == 4


def test_holm_is_over_all_pairs_of_an_axis() -> None:
    generator = np.random.default_rng(3)
    keys = [INTRINSIC, "test/crows_pairs_stereotype"], [EXTRINSIC, "test/false_positive_rate_gap"]
    table = long({key: of_models(generator.normal(size=10)) for key in (*keys[0], *keys[1], DOSE)})
    axis = Axis(dose=DOSE, signed=True, intrinsic=keys[0], extrinsic=keys[1])

    pairs = agreement(table, AgreementSettings(axes={"one": axis, "two": axis})).pairs

    for name in ("one", "two"):
        of_axis = pairs[pairs["axis"] == name].sort_values("spearman_p")
        a, b, c, d = of_axis["spearman_p"]
        # By hand: 4, 3, 2, 1 times the p in order, never falling, at most 1.
        steps = [4 * a, max(4 * a, 3 * b), max(4 * a, 3 * b, 2 * c), max(4 * a, 3 * b, 2 * c, d)]
        assert of_axis["spearman_p_holm"].tolist() == pytest.approx([min(1, step) for step in steps])


def test_noise_hides_a_correlation_and_the_correction_brings_it_back() -> None:
    corrected, plain = [], []
    for n in range(60, 80):
        found = agreement(study(n, noise=1.5, seeds=2, own=0.0), asked())
        [row] = found.pairs.to_dict("records")
        plain.append(row["pearson"])
        corrected.append(row["pearson_corrected"])
        noise = found.noise
        assert noise["seeds"].tolist() == [2, 2]
        assert noise["within"].tolist() == pytest.approx([1.5, 1.5], rel=0.3)
    # The variance of the truth is about 4/3, and of a mean of two seeds 1.125 more.
    assert np.mean(plain) == pytest.approx((4 / 3) / (4 / 3 + 1.125), abs=0.07)
    assert np.mean(corrected) == pytest.approx(1, abs=0.07)


def test_reliability_by_hand() -> None:
    values = {"a": [1.0, 3.0], "b": [5.0, 7.0], "c": [4.0, 4.0], "d": [8.0, 8.0]}
    noise = agreement(long({EXTRINSIC: values, INTRINSIC: values, DOSE: values}), asked()).noise.iloc[1]

    # Within: variances 2, 2, 0, 0, mean 1. Between: means 2, 6, 4, 8, variance 20/3. Noise of a mean: 1/2.
    assert (noise["within"], noise["between"]) == pytest.approx((1, math.sqrt(20 / 3)))
    assert noise["reliability"] == pytest.approx(1 - 0.5 / (20 / 3))


def test_one_seed_has_no_reliability_and_no_correction() -> None:
    found = agreement(study(), asked())

    assert found.noise[["within", "reliability"]].isna().all(axis=None)
    assert found.pairs["pearson_corrected"].isna().all()


def test_models_under_the_admission_score_are_left_out_and_named() -> None:
    table = pd.concat([study(10), long({UTILITY: of_models(np.array([50.0, 70] * 4 + [60.0]))})])

    found = agreement(table, asked(admission=Admission(metric=UTILITY, least=60.0)))

    assert found.models == 5
    assert found.remarks[:2] == [
        f"Model below 60 of {UTILITY}, left out: 4 (m0, m2, m4, m6).",
        f"Model without {UTILITY}, left out: 1 (m9).",
    ]
    assert "Models: 5. Of fewer than 8 admitted models no verdict on correlation is drawn." in found.remarks
    assert found.pairs["n"].tolist() == [5]
    assert not found.pairs["significant"].any()
    assert found.truth["verdict"].isna().all()


def test_families_are_drawn_whole_and_left_out_in_turn() -> None:
    table = study(12)
    families = {f"f{place}": [f"m{3 * place + each}" for each in range(3)] for place in range(4)}

    alone, blocked = (agreement(table, asked(families=given)) for given in ({}, families))

    assert alone.pairs["spearman"].tolist() == blocked.pairs["spearman"].tolist()
    assert alone.pairs["spearman_low"].tolist() != blocked.pairs["spearman_low"].tolist()
    [row] = blocked.pairs.to_dict("records")
    assert row["without_a_family_low"] < row["spearman"] < row["without_a_family_high"]
    few = agreement(table, asked(families={"all": [f"m{place}" for place in range(11)]} | {"gone": ["m99"]}))
    assert few.remarks == [
        "Cell of a family that the study does not have: 1 (m99).",
        "Fewer than 4 families: there is no interval.",
    ]
    assert few.pairs["spearman_low"].isna().all()


def test_what_cannot_be_had_is_named_and_counted() -> None:
    table = study(3)
    constant = long({UTILITY: of_models(np.full(3, 0.1), seeds=3), "test/accuracy": {"m0": [0.5]}})
    missing = "test/false_positive_rate_gap"
    axis = Axis(dose=DOSE, intrinsic=[INTRINSIC], extrinsic=[UTILITY, missing, "test/accuracy"])

    found = agreement(pd.concat([table, constant]), AgreementSettings(axes={"a": axis}))

    pairs = [f"{INTRINSIC} with {other}" for other in axis.extrinsic]
    assert found.remarks == [
        f"Metric that no admitted model has: 1 ({missing}).",
        f"Metric with one value for all models, which correlates with nothing: 2 ({UTILITY}, test/accuracy).",
        "Model without test/accuracy: 2 (m1, m2).",
        f"Pair with fewer than 4 models, and no correlation: 3 ({', '.join(pairs)}).",
        "Models: 3. Of fewer than 8 admitted models no verdict on correlation is drawn.",
    ]
    assert found.pairs[["spearman", "spearman_p_holm", "partial", "power"]].isna().all(axis=None)
    nothing = agreement(table, AgreementSettings(axes={"a": axis}, admission=Admission(metric=UTILITY, least=1.0)))
    assert nothing.models == len(nothing.pairs) == len(nothing.truth) == len(nothing.noise) == 0
    assert nothing.remarks == [f"Model without {UTILITY}, left out: 3 (m0, m1, m2)."]


def test_a_partition_of_the_same_name_is_no_model_and_two_verbs_may_not_say_the_same() -> None:
    table = study()
    again = table.assign(verb="partition").astype(COLUMNS)

    def same(one: Agreement, other: Agreement) -> bool:
        return one.pairs.equals(other.pairs)

    assert same(agreement(pd.concat([table, again]), asked()), agreement(table, asked()))
    other = long({"test/accuracy": of_models(np.arange(12.0))})
    both = pd.concat([table, other, other.assign(verb="train").astype(COLUMNS)])
    assert same(agreement(both, asked()), agreement(table, asked()))
    with pytest.raises(InputError, match=rf"`{DOSE}` of the cell `m0` is measured by two verbs; give"):
        agreement(pd.concat([table, table.assign(verb="train").astype(COLUMNS)]), asked())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"axes": {"a": {"dose": "train/nothing", "intrinsic": [INTRINSIC], "extrinsic": [EXTRINSIC]}}},
            r"axes\.a\.dose: 'train/nothing' is not allowed; give split/metric",
        ),
        (
            {"axes": {"a": {"dose": DOSE, "intrinsic": [INTRINSIC] * 2, "extrinsic": [EXTRINSIC]}}},
            r"axes\.a\.intrinsic: .* is not allowed; each must be given once",
        ),
        ({"axes": {}}, r"axes: {} is not allowed"),
        ({"families": {"f": ["m1"], "g": ["m1"]}}, r"families: .* is not allowed; each must be given once"),
        (
            {"admission": {"metric": UTILITY, "least": 1.0, "most": 2.0}},
            r"admission\.most: no such setting; allowed: least, metric",
        ),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], message: str) -> None:
    block = asked().model_dump() | change

    with pytest.raises(InputError, match=r"params\.yaml: report\.agreement\.bias\." + message):
        read({"bias": {}, "report": {"agreement": {"bias": block}}})


def test_a_study_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"report\.agreement\.other: no such study; there are: bias"):
        read({"bias": {}, "report": {"agreement": {"other": asked().model_dump()}}})
    assert read({"bias": {}}) == {}


def test_of_an_axis_without_a_dose_nothing_is_held_against_one() -> None:
    table = study()
    plain = {"signed": True, "intrinsic": [INTRINSIC], "extrinsic": [EXTRINSIC]}
    both = agreement(table, asked(axes={"gender": plain | {"dose": DOSE}, "all": plain}))
    assert list(both.truth["axis"]) == ["gender", "gender", "all", "all"]
    assert list(both.truth["own"]) == [True, True, False, False]
    # The doses that there are are held fixed on all axes.
    assert both.pairs["partial"].nunique() == 1
    none = agreement(table, asked(axes={"all": plain}))
    assert none.truth.empty
    assert none.pairs["spearman"].item() == both.pairs["spearman"].iloc[0]
    assert math.isnan(none.pairs["partial"].item())
    assert none.remarks == []
    assert [table.name for table in agreement_tables(none)] == ["agreement", "noise_floor"]
    assert len(agreement_figures("bias", none)) == 1
