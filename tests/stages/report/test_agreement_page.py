from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.report.build import build
from stages.report.page import Study

CELLS = [f"m{place}" for place in range(9)]


def asked(cells: list[str]) -> dict[str, Any]:
    """Return the parameters of a study of these cells, two metrics of which are compared with two others."""
    axis = {
        "dose": "train/noise_multiplier",
        "intrinsic": ["test/true_positive_rate/vowels", "test/false_positive_rate/vowels"],
        "extrinsic": ["test/accuracy", "test/counterfactual_flip_rate"],
    }
    grid = {"grid": {"variant": cells}}
    study = {"dataset": "letters", "seeds": [0, 1], "train": grid, "score": grid}
    return {"profile": "quick", "bias": study, "report": {"agreement": {"bias": {"axes": {"letters": axis}}}}}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[dict[str, Any]], None]) -> Any:
    monkeypatch.chdir(tmp_path)

    def make(cells: list[str]) -> Study:
        write(asked(cells))
        return build(asked(cells), ["bias"], Path("reports"), only=True)[0]

    return make


def test_a_study_with_settings_has_three_tables_and_a_matrix(made: Callable[[list[str]], Study]) -> None:
    study = made(CELLS)

    tables = {table.name: table for table in study.tables}
    assert list(tables)[-3:] == ["agreement", "planted_truth", "noise_floor"]
    for table in study.tables[-3:]:
        [section] = table.sections
        assert len(section.rows) == 4
        assert all(len(row) == len(table.headings) and all(row) for row in section.rows)
    assert "no verdict" not in tables["agreement"].note
    assert "Of 9 models an |r| below 0.666 is not significant." in tables["agreement"].note
    assert "as it is; negated" in [row[3] for row in tables["agreement"].sections[0].rows]
    assert (Path("reports/figures/bias") / "agreement-letters.svg").exists()
    assert len(pd.read_csv("reports/tables/bias/noise_floor.csv")) == 4
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert 'id="bias-agreement-letters"' in page
    [figure] = [figure for figure in study.figures if figure.name == "agreement-letters"]
    for value in tables["agreement"].numbers["spearman"]:
        assert f">{value:.2f}".replace("-", "\N{MINUS SIGN}") in figure.svg or f">{value:.2f}" in figure.svg


def test_of_no_admitted_model_it_is_said_why_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[dict[str, Any]], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = asked(CELLS)
    parameters["report"]["agreement"]["bias"]["admission"] = {"metric": "test/accuracy", "least": 2}
    write(parameters)
    [study] = build(parameters, ["bias"], Path("reports"), only=True)
    assert [table.name for table in study.tables][-1] == "agreement"
    assert study.tables[-1].sections[0].rows == []
    assert "Model below 2 of test/accuracy, left out: 9 (m0, " in study.tables[-1].note
    assert not list(Path("reports/figures/bias").glob("agreement*"))


def test_of_few_models_the_tables_are_there_and_say_that_no_verdict_is_drawn(
    made: Callable[[list[str]], Study],
) -> None:
    study = made(CELLS[:5])

    tables = {table.name: table for table in study.tables}
    assert "Of fewer than 8 admitted models no verdict on correlation is drawn." in tables["agreement"].note
    assert {row[-1] for row in tables["planted_truth"].sections[0].rows} == {"\N{EN DASH}"}
    [figure] = [figure for figure in study.figures if figure.name == "agreement-letters"]
    assert "no verdict is drawn" in figure.caption


def test_of_three_models_nothing_but_the_noise_is_shown(made: Callable[[list[str]], Study]) -> None:
    study = made(CELLS[:3])

    [table] = [table for table in study.tables if table.name == "agreement"]
    assert {row[5] for row in table.sections[0].rows} == {"\N{EN DASH}"}
    assert "Pair with fewer than 4 models, and no correlation: 4" in table.note
