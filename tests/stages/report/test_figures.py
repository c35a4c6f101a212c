import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.common import artifacts
from stages.common.errors import InputError
from stages.report import curves
from stages.report.drawing import COLOURS, LABEL, SHAPES, Figure, beside, marks
from stages.report.figures import figures
from stages.report.settings import targets
from stages.results.long_table import COLUMNS, long_table
from stages.results.sources import Source, sources
from stages.results.summaries import summarise


def draw(parameters: dict[str, Any], study: str) -> dict[str, Figure]:
    cells = sources(parameters, study)
    results = long_table("quick", cells)
    drawn = figures(study, summarise(results), results, cells, targets(parameters).get(study))
    return {figure.name: figure for figure in drawn}


@pytest.fixture(scope="module")
def drawn(report: Path, synthetic: dict[str, Any]) -> dict[str, dict[str, Figure]]:
    """The figures of each synthetic study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(report.parent)
        return {study: draw(synthetic, study) for study in ("whole", "trained_only")}


def test_a_study_has_the_figures_it_has_data_for(drawn: dict[str, dict[str, Figure]]) -> None:
    assert list(drawn["whole"]) == [
        "partition-halves",
        "utility-accuracy",
        "utility-epsilon",
        "leakage-epsilon",
        "rounds",
        "rounds-to-target",
        "roc",
    ]
    assert list(drawn["trained_only"]) == ["utility-accuracy"]


def test_of_many_cells_no_two_look_alike() -> None:
    assert marks(SHAPES, 3) == SHAPES
    looks = [(cell % len(COLOURS), shape) for cell, shape in enumerate(marks(SHAPES, 49))]
    assert len(set(looks)) == 49


def test_every_trial_of_an_extraction_has_its_exposure_drawn() -> None:
    base = {"study": "s", "verb": "extract", "split": "canaries", "unit": "bits", "n": 10_000}
    rows = [
        base | {"cell": cell, "seed": seed, "metric": metric, "value": value}
        for cell, values in {"none": [13.0, 5.0], "control": [1.0, 0.5]}.items()
        for seed, value in enumerate(values)
        for metric, value in (("canary_exposure", value), ("chance_canary_exposure", 1.44))
    ]
    results = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    [figure] = figures("s", summarise(results), results, [])
    assert figure.name == "exposure"
    assert figure.alt == "Mean exposure in bits: none 9.0, control 0.8."
    assert "13.3 bits" in figure.caption


def test_of_one_seed_the_line_is_what_examples_leave_open() -> None:
    base = {
        "study": "s",
        "verb": "train",
        "seed": 0,
        "metric": "accuracy",
        "split": "test",
        "unit": "fraction",
        "n": 100,
    }
    rows = [
        base | {"cell": cell, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1}
        for cell, value in {"one": 0.50, "other": 0.51}.items()
    ]
    results = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    [figure] = figures("s", summarise(results), results, [])
    assert "the line is what the sampling of examples leaves open" in figure.caption
    # The axis has room for it, and does not begin and end at the two means.
    ticks = [float(text) for text in re.findall(r">(0\.\d+)</text>", figure.svg)]
    assert min(ticks) <= 0.45
    assert max(ticks) >= 0.55


def test_what_is_extracted_is_drawn_against_the_number_of_canaries() -> None:
    base = {"study": "s", "verb": "extract", "split": "canaries", "n": 1}
    roles = {"none": ("baseline", 100), "few": ("baseline", 10), "dropout": ("model", 100), "control": ("control", 100)}
    rows = [
        base | {"cell": cell, "role": role, "seed": seed, "metric": metric, "unit": unit, "value": value}
        for cell, (role, count) in roles.items()
        for seed in range(2)
        for metric, unit, value in (
            ("canary_repetitions", "count", count),
            ("canary_accuracy", "fraction", float(seed and count > 10)),
            ("canary_exposure", "bits", count / 10),
            ("chance_canary_exposure", "bits", 1.44),
        )
    ]
    results = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    [_, figure] = figures("s", summarise(results), results, [])
    assert figure.name == "repetitions"
    assert "secrets extracted whole: 0 at 10, 0.5 at 100" in figure.alt
    assert "exposure of the secret: 1 at 10, 10 at 100" in figure.alt

    results = results[results["cell"] != "few"]
    assert [figure.name for figure in figures("s", summarise(results), results, [])] == ["exposure"]


def by_device(
    cells: dict[str, tuple[list[float], list[float]]], metric: str = "accuracy", unit: str = "fraction"
) -> pd.DataFrame:
    """A long table of values by seed on heavy and on light devices."""
    base = {"study": "s", "verb": "federate", "split": "test", "metric": metric, "unit": unit}
    rows = [
        base | {"cell": cell, "group": group, "seed": seed, "value": value, "n": n}
        for cell, sides in cells.items()
        for group, values, n in zip(("heavy devices", "light devices"), sides, (1200, 80), strict=True)
        for seed, value in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.assign(ci_low=table["value"] - 0.1, ci_high=table["value"] + 0.1)


def drawn_by_device(results: pd.DataFrame) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures("s", summarise(results), results, [])}


def test_cells_are_drawn_by_light_and_heavy_devices() -> None:
    results = by_device(
        {
            "uniform": ([0.3, 0.5], [0.4, 0.6]),
            "heavy": ([0.6, 0.8], [0.2, 0.4]),
            # As good on heavy devices, and worse on light ones.
            "worse": ([0.6, 0.8], [0.1, 0.2]),
            "middle": ([0.3, 0.4], [0.3, 0.4]),
        }
    )

    figure = drawn_by_device(results)["light-and-heavy"]

    assert figure.alt == (
        "accuracy on heavy and on light devices: uniform 0.400 and 0.500, heavy 0.700 and 0.300, "
        "worse 0.700 and 0.150, middle 0.350 and 0.350. Pareto front: uniform, heavy."
    )
    assert "(n = 1,200 of heavy devices, 80 of light ones), mean over 2 seeds" in figure.caption
    assert "further up and to the right is better; the thin line is the Pareto front" in figure.caption
    # Each point has its number, and the legend says whose it is; a halo below makes two of a number.
    assert [figure.svg.count(f">{number}</text>") for number in range(1, 6)] == [2, 2, 2, 2, 0]
    for name in ("1 uniform", "2 heavy", "3 worse", "4 middle"):
        assert f">{name}</text>" in figure.svg


def test_less_perplexity_is_better_on_light_and_heavy_devices_too() -> None:
    results = by_device({"one": ([9.0, 9.5], [20.0, 21.0]), "other": ([8.0, 8.5], [12.0, 13.0])}, "perplexity", "ratio")

    figure = drawn_by_device(results)["light-and-heavy"]

    assert "further down and to the left is better; other is all of the Pareto front" in figure.caption
    assert figure.alt.endswith("Pareto front: other.")


def test_of_one_seed_devices_have_what_examples_leave_open() -> None:
    figure = drawn_by_device(by_device({"one": ([0.5], [0.4]), "other": ([0.5], [0.45])}))["light-and-heavy"]

    assert "one seed, so no interval of seeds; the crosshairs are what the sampling of examples" in figure.caption
    ticks = [float(text) for text in re.findall(r">(0\.\d+)</text>", figure.svg)]
    assert min(ticks) <= 0.35
    assert max(ticks) >= 0.55


def test_a_cell_of_one_seed_beside_others_of_more_is_a_point() -> None:
    cells = {"one": ([0.9], [0.9]), "other": ([0.5, 0.5, 0.5], [0.4, 0.4, 0.4])}

    figure = drawn_by_device(by_device(cells))["light-and-heavy"]

    assert "mean over 1 to 3 seeds" in figure.caption
    assert "NaN" not in figure.svg
    ticks = [float(text) for text in re.findall(r">(0\.\d+)</text>", figure.svg)]
    assert max(ticks) >= 0.9


def test_devices_are_drawn_by_the_first_utility_that_both_kinds_have() -> None:
    both = {"one": ([0.5, 0.6], [0.4, 0.5])}
    results = pd.concat([by_device(both, "perplexity", "ratio"), by_device(both)], ignore_index=True)
    assert drawn_by_device(results)["light-and-heavy"].alt.startswith("accuracy on heavy")

    # Light devices have no accuracy here.
    lacking = results[(results["metric"] == "perplexity") | (results["group"] == "heavy devices")]
    assert drawn_by_device(lacking)["light-and-heavy"].alt.startswith("perplexity per token, byte or word on heavy")

    assert drawn_by_device(results[results["group"] == "heavy devices"]) == {}
    assert drawn_by_device(results.assign(verb="train")) == {}


def test_labels_lie_beside_their_points_and_not_on_each_other() -> None:
    # Seventeen points in the middle of a plot.
    points = np.random.default_rng(0).normal(185, 40, (17, 2))

    labels = beside(points)

    assert (np.abs(labels - points) <= 3 * LABEL + 1e-6).all()
    for label, point in zip(labels, points, strict=True):
        others = np.concatenate([labels[(labels != label).any(axis=1)], points])
        assert (np.abs(others - label) >= LABEL * (1 - 1e-6)).any(axis=1).all(), point


@pytest.mark.usefixtures("project")
def test_leakage_stands_beside_epsilon_only_where_an_attacked_cell_has_one(parameters: dict[str, Any]) -> None:
    parameters["whole"]["attack"]["grid"]["variant"] = ["none", "fedavg"]
    names = list(draw(parameters, "whole"))
    assert "utility-epsilon" in names
    assert "leakage-epsilon" not in names


def test_every_figure_is_named_and_its_ids_are_its_own(drawn: dict[str, dict[str, Figure]]) -> None:
    figures = [figure for study in drawn.values() for figure in study.values()]

    ids = [name for figure in figures for name in re.findall(r'\bid="([^"]+)"', figure.svg)]
    assert ids
    assert len(ids) == len(set(ids))
    for figure in figures:
        assert figure.svg.startswith('<svg role="img" aria-label="')
        assert f"<title>{figure.alt}</title>" in figure.svg
        assert set(re.findall(r"url\(#([^)]+)\)", figure.svg)) <= set(re.findall(r'\bid="([^"]+)"', figure.svg))


def test_lines_differ_in_dash_and_not_only_in_colour(drawn: dict[str, dict[str, Figure]]) -> None:
    assert len(set(re.findall(r'stroke-dasharray="([^"]+)"', drawn["whole"]["roc"].svg))) == 4


def test_a_figure_is_the_same_bytes_again_in_one_process(report: Path, drawn: dict[str, dict[str, Figure]]) -> None:
    for name, figure in drawn["whole"].items():
        assert (report / f"figures/whole/{name}.svg").read_text(encoding="utf-8") == figure.svg + "\n"


def test_rounds_show_utility_rather_than_loss(drawn: dict[str, dict[str, Figure]]) -> None:
    assert "Federated rounds: test accuracy." in drawn["whole"]["rounds"].caption


def test_rounds_without_accuracy_show_the_loss_on_validation_data(
    report: Path, synthetic: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(report.parent)
    measured = ["train/bytes_up", "train/loss", "valid/loss"]
    history = pd.DataFrame({"seed": 0, "step": [1, 1, 1], "metric": measured, "value": [9.0, 2.0, 1.5]})
    read = curves.read
    monkeypatch.setattr(curves, "read", lambda source: history if source.verb == "federate" else read(source))
    assert "Federated rounds: valid loss." in draw(synthetic, "whole")["rounds"].caption


def test_a_partition_says_whether_all_clients_are_shown(drawn: dict[str, dict[str, Figure]]) -> None:
    assert "first seed, all 40 clients" in drawn["whole"]["partition-halves"].caption


@pytest.mark.usefixtures("project")
def test_the_rarest_of_many_labels_are_gathered(parameters: dict[str, Any]) -> None:
    rows = [(0, f"label {label:02}", client, 1 + label) for client in range(20) for label in range(50)]
    table = pd.DataFrame(rows, columns=["seed", "label", "client", "count"])
    artifacts.write_table(Path("reports/curves/partitions/halves/holdings.csv"), table)

    figure = draw(parameters, "whole")["partition-halves"]

    assert "the 20 largest of 40 clients" in figure.caption
    assert "21 other labels" in figure.svg
    assert "hold 25,500 examples of 50 labels" in figure.alt


def test_a_roc_is_read_as_steps_and_averaged_at_the_same_rates() -> None:
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "false_positive_rate": [0.0, 0.5, 1.0, 0.0, 0.25, 1.0],
            "true_positive_rate": [0.25, 0.75, 1.0, 0.0, 0.5, 1.0],
        }
    )

    read = curves.roc(table, np.array([0.1, 0.3, 0.5, 1.0]))

    by_seed = {seed: list(rows["true_positive_rate"]) for seed, rows in read.groupby("seed")}
    assert by_seed == {
        "0": [0.25, 0.25, 0.75, 1.0],
        "1": [0.0, 0.5, 0.5, 1.0],
        "mean": [0.125, 0.375, 0.625, 1.0],
    }


def test_rounds_are_averaged_over_seeds() -> None:
    history = pd.DataFrame(
        {
            "seed": [0.0, 0.0, 1.0, 1.0, 0.0],
            "step": [1.0, 2.0, 1.0, 2.0, 1.0],
            "metric": ["accuracy"] * 4 + ["loss"],
            "value": [0.25, 0.5, 0.75, 1.0, 9.0],
        }
    )

    read = curves.rounds(history, "accuracy")

    assert read.loc[read["seed"] == "mean", "value"].tolist() == [0.5, 0.75]
    assert read.loc[read["seed"] == "1", "value"].tolist() == [0.75, 1.0]


def test_rounds_to_a_target_are_the_first_to_reach_it() -> None:
    history = pd.DataFrame(
        {
            "seed": [0.0, 0.0, 0.0, 1.0, 1.0, 0.0],
            "step": [1.0, 2.0, 3.0, 1.0, 2.0, 1.0],
            "metric": ["accuracy"] * 5 + ["loss"],
            "value": [0.25, 0.5, 0.25, 0.25, 0.25, 9.0],
        }
    )

    reached = curves.rounds_to_target(history, "accuracy", 0.5)

    assert reached.loc[0] == 2.0
    assert np.isnan(reached.loc[1])


def test_a_loss_reaches_its_target_from_above() -> None:
    history = pd.DataFrame({"seed": 0.0, "step": [1.0, 2.0, 3.0], "metric": "valid/loss", "value": [2.9, 1.4, 0.7]})
    assert curves.rounds_to_target(history, "valid/loss", 1.0).loc[0] == 3.0


def test_what_is_sent_until_a_round_goes_both_ways() -> None:
    history = pd.DataFrame(
        [
            (seed, step, f"train/bytes_{way}", 10.0**step)
            for seed in (0.0, 1.0)
            for step in (0.0, 1.0, 2.0)
            for way in ("up", "down")
        ],
        columns=["seed", "step", "metric", "value"],
    )

    sent = curves.sent(history, pd.Series({0.0: 1.0, 1.0: np.nan}))

    assert sent.loc[0] == 22.0
    assert np.isnan(sent.loc[1])


def test_seeds_that_never_reach_the_target_are_counted(report: Path, synthetic: dict[str, Any]) -> None:
    never = copy.deepcopy(synthetic)
    never["report"]["targets"]["whole"] = 0.99
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(report.parent)
        figure = draw(never, "whole")["rounds-to-target"]

    assert "fedavg 3 of 3 seeds never" in figure.alt
    assert "3 of 3 seeds never" in figure.svg


def test_utility_stands_beside_epsilon_and_beside_no_guarantee(drawn: dict[str, dict[str, Figure]]) -> None:
    words = drawn["whole"]["utility-epsilon"].alt

    assert re.search(r"dpsgd 0\.7\d\d at epsilon 5\.41", words)
    assert re.search(r"none 0\.8\d\d without a guarantee", words)


def test_accuracy_stands_against_the_decisions_that_gender_changes() -> None:
    columns = ["verb", "split", "metric", "group", "cell", "role", "mean", "ci_low", "ci_high", "seeds", "n"]
    rows = [
        ("score", "test", metric, None, cell, "model", mean, mean - 0.1, mean + 0.1, 3, 100)
        for metric, means in (("accuracy_of_drawn_gender", (0.9, 0.8)), ("decisions_by_gender", (0.3, 0.1)))
        for cell, mean in zip(("none", "strong"), means, strict=True)
    ]
    summary = pd.DataFrame(rows, columns=columns).assign(sampling_half_width=0.05)
    results = pd.DataFrame(columns=["metric", "value"])
    [figure] = figures("penalty", summary, results, [])
    assert figure.name == "utility-decisions-by-gender"
    assert figure.step == "score"
    assert "none 0.900 with 30.0%, strong 0.800 with 10.0%" in figure.alt
    assert figures("penalty", summary[summary["metric"] == "decisions_by_gender"], results, []) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed,step,metric\n0,1,loss\n", "Usecols do not match columns"),
        ("seed,step,metric,value\n0,1,loss,high\n", "could not convert string to float"),
        ("seed,step,metric,value\n0,1,loss,\n", "holds a missing or infinite number"),
    ],
)
def test_a_malformed_curve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = Source("whole", "federate", "fedavg")
    assert source.curve is not None
    source.curve.parent.mkdir(parents=True)
    source.curve.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=rf"history\.csv: .*{problem}.*dvc repro"):
        curves.read(source)


def test_a_missing_curve_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=r"curves/whole/a/roc\.csv: no such file; run `dvc repro`"):
        curves.read(Source("whole", "attack", "a"))
