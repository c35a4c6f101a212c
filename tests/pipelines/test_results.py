"""`assay claims` and `assay show`: what the report has, in the terminal."""

import shutil
import sys
from pathlib import Path

import pytest

from pipelines import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of this project that git holds, in a folder of their own."""
    for name in ("params.yaml", "profiles", "reports/metrics", "reports/verdicts.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


def test_claims_show_statement_numbers_verdict_and_reason(project, assay):
    status, out, err = assay("claims", "federated_nlp")
    assert (status, err) == (0, "")
    assert "canary_extraction" not in out
    for said in ("here with skewed labels", "no published number", "n=3", "consistent", "within what the seeds allow"):
        assert said in out
    assert "canary_extraction" in assay("claims")[1]


def test_claims_of_an_unknown_study_or_before_a_report_are_one_line(project, assay):
    status, out, err = assay("claims", "nothing")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has no claims of `nothing`; it has: canary_extraction" in err
    Path("reports/verdicts.csv").unlink()
    status, out, err = assay("claims")
    assert (status, out) == (2, "")
    assert err == "error: reports/verdicts.csv: no such file; `dvc repro report` writes it\n"


def test_show_has_the_tables_of_a_study(project, assay):
    status, out, err = assay("show", "joint")
    assert (status, err) == (0, "")
    for said in ("Joint: utility, epsilon, leakage", "attack AUC → 0.5", "no guarantee", "dpsgd"):
        assert said in out


def test_show_of_an_unknown_study_or_without_results_is_one_line(project, assay):
    status, out, err = assay("show", "nothing")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has no `nothing`; it has: " in err
    shutil.rmtree("reports/metrics/joint")
    status, _, err = assay("show", "joint")
    assert (status, err.count("\n")) == (2, 1)
    assert "no such file" in err
