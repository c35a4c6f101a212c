from pathlib import Path
from typing import Any

import pytest

from stages.common.errors import InputError
from stages.common.settings import read_parameters
from stages.report.settings import profile
from stages.results.long_table import long_table
from stages.results.sources import Source, reported_studies, sources

ROOT = Path(__file__).parents[3]


def test_cells_come_from_the_grids_in_reading_order(parameters: dict[str, Any]) -> None:
    found = [(source.verb, source.cell) for source in sources(parameters, "trained_only")]

    assert found == [("train", "large"), ("train", "small"), ("distill", "distilled")]


def test_partitions_come_from_the_study_and_from_the_grids() -> None:
    study = {
        "partition": "a",
        "train": {"grid": {"variant": ["x"]}},
        "federate": {"grid": {"partition": ["b", "a"]}},
    }

    found = sources({"study": study}, "study")

    assert [source.cell for source in found if source.verb == "partition"] == ["a", "b"]


def test_files_are_the_metrics_and_the_curves_of_exactly_these_cells(parameters: dict[str, Any]) -> None:
    del parameters["whole"]["score"], parameters["whole"]["train"]
    parameters["whole"]["attack"]["grid"]["variant"] = ["fedavg"]

    found = [source for study in reported_studies(parameters) for source in sources(parameters, study)]
    files = {file for source in found for file in (source.metrics, source.curve) if file}
    assert sorted(map(str, files)) == [
        "reports/curves/partitions/halves/holdings.csv",
        "reports/curves/whole/fedavg/history.csv",
        "reports/curves/whole/fedavg/roc.csv",
        "reports/metrics/partitions/halves/partition.json",
        "reports/metrics/trained_only/distilled/distill.json",
        "reports/metrics/trained_only/large/train.json",
        "reports/metrics/trained_only/small/train.json",
        "reports/metrics/whole/fedavg/attack.json",
        "reports/metrics/whole/fedavg/federate.json",
    ]


def test_the_projects_own_parameters_are_understood() -> None:
    parameters = read_parameters(ROOT / "params.yaml")

    assert all(sources(parameters, study) for study in reported_studies(parameters))


def test_an_attack_on_a_cell_nobody_trains_is_refused(parameters: dict[str, Any]) -> None:
    parameters["whole"]["attack"]["grid"]["variant"].append("other")

    with pytest.raises(
        InputError, match=r"whole\.attack\.grid: no verb trains the cell `other`; trained are: none, dpsgd"
    ):
        sources(parameters, "whole")


def test_a_further_attack_has_a_name_of_its_own() -> None:
    extract = {"grid": {"variant": ["x", "again"]}, "variant": {"x": {"target": "x"}, "again": {"target": "x"}}}
    study = {"train": {"grid": {"variant": ["x", "y"]}}, "extract": extract}
    found = [(source.cell, source.target) for source in sources({"study": study}, "study")]
    assert found == [("x", None), ("y", None), ("x", "x"), ("again", "x")]

    extract["variant"]["x"]["target"] = "y"
    message = r"study\.extract\.grid: `x` is a cell that is trained, and this one attacks `y`; give it its own name"
    with pytest.raises(InputError, match=message):
        sources({"study": study}, "study")


def test_a_cell_that_two_verbs_train_is_refused(parameters: dict[str, Any]) -> None:
    parameters["trained_only"]["distill"]["grid"]["variant"] = ["small"]

    with pytest.raises(InputError, match=r"trained_only\.train\.grid: cell `small` is trained more than once"):
        sources(parameters, "trained_only")


def test_a_block_that_is_no_study_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: report: is no study"):
        sources(parameters, "report")


def test_on_the_page_are_the_studies_with_a_cell_in_the_order_of_the_file(parameters: dict[str, Any]) -> None:
    parameters = {"first": {"train": {"grid": {"variant": []}}}} | parameters

    assert reported_studies(parameters) == ["whole", "trained_only"]


def test_a_profile_has_a_name(parameters: dict[str, Any]) -> None:
    assert profile(parameters) == "quick"
    with pytest.raises(InputError, match=r"params\.yaml: profile: 3 is not allowed"):
        profile({"profile": 3})


def test_verbs_without_a_figure_have_no_curve() -> None:
    assert Source("study", "train", "cell").curve is None


def test_cells_of_another_profile_on_disk_are_ignored(project: Path, parameters: dict[str, Any]) -> None:
    parameters["whole"]["train"]["grid"]["variant"] = ["none", "dpsgd"]
    parameters["whole"]["attack"]["grid"]["variant"] = ["none"]

    table = long_table("quick", sources(parameters, "whole"))

    assert set(table.loc[table["verb"] == "train", "cell"]) == {"none", "dpsgd"}
    assert set(table.loc[table["verb"] == "attack", "cell"]) == {"none"}
