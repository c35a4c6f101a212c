"""The whole command: what it writes, that it writes the same again, and what it refuses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.report import __main__ as command
from stages.report.build import build

ROOT = Path(__file__).parents[3]
REPORTS = Path("reports")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "stages.report", *arguments]
    return subprocess.run(called, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "COLUMNS": "120"})


def written() -> dict[str, bytes]:
    files = [file for folder in ("tables", "figures") for file in (REPORTS / folder).rglob("*.*")]
    return {str(file): file.read_bytes() for file in [*files, REPORTS / "index.html", REPORTS / "results.parquet"]}


@pytest.mark.usefixtures("project")
def test_the_report_is_complete_and_the_same_bytes_again(parameters: dict[str, Any]) -> None:
    assert run().returncode == 0
    first = written()

    build(parameters, ["whole", "trained_only"], REPORTS)

    assert written() == first
    tables = {f"reports/tables/whole/{name}" for name in ("partition", "train", "attack", "score", "joint")}
    assert {f"{table}.{suffix}" for table in tables for suffix in ("csv", "md", "tex")} < set(first)
    assert {"reports/figures/whole/roc.svg", "reports/tables/trained_only/train.md"} < set(first)
    results = pd.read_parquet("reports/results.parquet")
    assert list(results["study"].unique()) == ["whole", "trained_only"]
    assert not results.duplicated(["study", "verb", "cell", "split", "metric", "group", "seed"]).any()


@pytest.mark.usefixtures("project")
def test_a_preview_shows_one_study_and_leaves_the_report_alone(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(parameters, ["trained_only"], REPORTS)
    before = written()
    monkeypatch.setattr(sys, "argv", ["report", "--study", "whole"])
    monkeypatch.setenv("COLUMNS", "120")

    command.main()

    shown = capsys.readouterr().out
    assert "Joint: utility, guarantee and what was measured further, of the same models" in shown
    assert "2.97 (all" in shown
    assert written() == before
    preview = REPORTS / "preview/whole"
    assert (preview / "tables/whole/joint.md").exists()
    assert "trained_only" not in (preview / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("project")
def test_a_study_that_is_gone_leaves_nothing_behind(parameters: dict[str, Any]) -> None:
    (REPORTS / "tables/gone").mkdir(parents=True)
    (REPORTS / "figures/gone").mkdir(parents=True)

    build(parameters, ["trained_only"], REPORTS)

    assert [folder.name for folder in (REPORTS / "tables").iterdir()] == ["trained_only"]
    assert [folder.name for folder in (REPORTS / "figures").iterdir()] == ["trained_only"]


@pytest.mark.usefixtures("project")
def test_one_seed_makes_a_whole_report(parameters: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
    parameters["whole"]["seeds"] = [7]
    write(parameters)

    build(parameters, ["whole"], REPORTS)

    html = (REPORTS / "index.html").read_text(encoding="utf-8")
    assert "value (one seed: no interval)" in html
    assert "interval over" not in html.split("<main")[1].replace("interval over seeds", "")


@pytest.mark.usefixtures("project")
def test_wrong_input_is_one_line_and_nothing_is_written() -> None:
    Path("reports/metrics/whole/dpsgd/attack.json").unlink()

    failed = run()

    assert failed.returncode == 2
    assert failed.stderr.startswith("error: reports/metrics/whole/dpsgd/attack.json: no such file; run `dvc repro`")
    assert failed.stderr.count("\n") == 1
    assert not (REPORTS / "index.html").exists()


def test_help_says_what_is_read_and_written() -> None:
    shown = run("--help").stdout

    assert "reports/results.parquet" in shown
    assert "--study NAME" in shown


def test_the_command_starts_without_heavy_imports() -> None:
    code = "import sys, stages.report.__main__; print({'torch', 'sklearn', 'scipy.stats'} & set(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert loaded.stdout == "set()\n"
