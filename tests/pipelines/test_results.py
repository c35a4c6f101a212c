"""`assay claims` and `assay show`: what the report has, in the terminal."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of this project that git holds, in a folder of their own."""
    for name in ("params.yaml", "profiles", "reports/metrics", "reports/verdicts.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


def test_claims_show_statement_numbers_verdict_and_reason(results, assay):
    status, out, err = assay("claims", "federated_nlp")
    assert (status, err) == (0, "")
    assert "canary_extraction" not in out
    for said in ("here with skewed labels", "no published number", "n=3", "consistent", "within what the seeds allow"):
        assert said in out
    assert "canary_extraction" in assay("claims")[1]


def test_claims_of_an_unknown_study_or_before_a_report_are_one_line(results, assay):
    status, out, err = assay("claims", "nothing")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has no claims of `nothing`; it has: canary_extraction" in err
    Path("reports/verdicts.csv").unlink()
    status, out, err = assay("claims")
    assert (status, out) == (2, "")
    assert err == "error: reports/verdicts.csv: no such file; `dvc repro report` writes it\n"


def test_show_has_the_tables_of_a_study(results, assay):
    status, out, err = assay("show", "joint")
    assert (status, err) == (0, "")
    for said in ("Joint: utility, guarantee", "attack AUC → 0.5", "no guarantee", "dpsgd"):
        assert said in out


def test_show_of_an_unknown_study_or_without_results_is_one_line(results, assay):
    status, out, err = assay("show", "nothing")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has no `nothing`; it has: " in err
    shutil.rmtree("reports/metrics/joint")
    status, _, err = assay("show", "joint")
    assert (status, err.count("\n")) == (2, 1)
    assert "no such file" in err


def test_report_writes_the_page_and_opens_it(checkout, assay, monkeypatch):
    Path("dvc.yaml").write_text(
        "stages:\n  train: {cmd: exit 1, outs: [model]}\n"
        "  report: {cmd: mkdir reports && echo page > reports/index.html, deps: [model], outs: [reports/index.html]}\n"
    )
    Path("model").write_text("fitted")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)

    status, out, err = assay("report", "--open")

    page = checkout / "reports/index.html"
    assert (status, err) == (0, "")
    assert page.read_text() == "page\n"
    assert out.splitlines()[-1] == str(page)
    assert opened == [page.as_uri()]


def test_where_there_is_no_browser_the_page_is_named(checkout, assay, monkeypatch):
    Path("dvc.yaml").write_text("stages:\n  report: {cmd: mkdir -p reports && touch reports/index.html}\n")
    monkeypatch.setattr("webbrowser.open", lambda _: False)

    status, _, err = assay("report", "--open")

    assert status == 2
    assert "no browser found here" in err


def test_a_report_that_fails_has_no_page(checkout, assay):
    Path("dvc.yaml").write_text("stages:\n  report: {cmd: exit 3, outs: [reports/index.html]}\n")
    Path("reports").mkdir()

    status, out, _ = assay("report")

    assert status == 1
    assert "index.html" not in out.splitlines()[-1]
