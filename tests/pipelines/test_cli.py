import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def assay(monkeypatch, capsys):
    """Call the command line in this process; return exit status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], ["run", "targets", "validate", "doctor", "profile", "dvc repro"]),
        (["run", "--help"], ["--study", "--force", "Exit status", "train-joint"]),
        (["profile", "--help"], ["use", "show"]),
        (["profile", "use", "--help"], ["--force"]),
        (["targets", "--help"], ["STUDY", "one line"]),
        (["doctor", "--help"], ["missing", "exit 1"]),
        (["--version"], ["assay 0"]),
    ],
)
def test_help_and_version(assay, arguments, shown):
    status, out, _ = assay(*arguments)
    assert status == 0
    assert not [text for text in shown if text.lower() not in out.lower()]


def test_help_answers_at_once():
    start = time.perf_counter()
    said = subprocess.run([Path(sys.executable).parent / "assay", "--help"], capture_output=True, text=True)
    assert said.returncode == 0
    assert "Usage: assay" in said.stdout
    # Half a second on an idle machine; the bound is generous, an import of DVC or Prefect would not meet it twice.
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--jobs"], ["targets"]])
def test_wrong_usage_exits_2(assay, arguments):
    assert assay(*arguments)[0] == 2


def test_outside_a_project_the_remedy_is_named(assay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = assay("validate")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "no params.yaml here or above; run from a clone of the project" in err
    assert err.count("\n") == 1


def test_targets_prints_one_line_from_any_folder_of_the_project(assay, checkout, monkeypatch):
    monkeypatch.chdir(checkout / "profiles")
    assert assay("targets", "joint") == (0, "only-joint\n", "")
    status, _, err = assay("targets", "other")
    assert status == 2
    assert "has no study `other`; it has: joint" in err


def test_validate(assay, checkout):
    assert assay("validate") == (0, "params.yaml: valid\n", "")
    edit("params.yaml", "head: mean", "head: max")
    status, out, err = assay("validate")
    assert (status, out) == (2, "")
    assert err.startswith("error: params.yaml: models.mean.head: 'max' is not allowed")


def test_profile_use_and_show(assay, checkout):
    assert assay("profile", "use", "smoke", "--force")[:2] == (0, "params.yaml: profile smoke\n")
    assert assay("profile", "show")[1].startswith("smoke (of quick, full, paper, smoke): no settings differ")
    assert "joint.seeds: [0, 1] -> [0, 1, 2]" in assay("profile", "show", "quick")[1]
    edit("params.yaml", "seeds: [0, 1]", "seeds: [1]")
    assert assay("profile", "use", "quick")[0] == 2
    assert assay("profile", "use", "quick", "--force")[0] == 0
    assert Path("params.yaml").read_bytes() == (ROOT / "profiles/quick.yaml").read_bytes()
    status, _, err = assay("profile", "use", "huge")
    assert status == 2
    assert "has no profile `huge`; it has: quick, full, paper, smoke" in err


def test_profile_that_is_not_complete_says_what_to_add(assay, checkout):
    status, out, err = assay("profile", "use", "paper", "--force")
    assert (status, out) == (2, "params.yaml: profile paper\n")
    assert "datasets.newsgroups" in err
    assert "revision" in err


def test_run_with_nothing_to_do_starts_no_prefect(assay, checkout, dvc):
    assert dvc("repro", root=checkout).returncode == 0
    code = "import sys; from pipelines import cli; sys.argv = ['assay', 'run', '--study', 'joint']; cli.main()"
    code = f"import atexit, sys; atexit.register(lambda: print('prefect' in sys.modules)); {code}"
    start = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "nothing to do: 1 stages are up to date\nFalse\n")
    assert time.perf_counter() - start < 3


def test_run_validates_first(assay, checkout):
    edit("params.yaml", "head: mean", "head: max")
    status, _, err = assay("run")
    assert status == 2
    assert "models.mean.head" in err
    assert not Path("now").exists()


def test_run_without_prefect_says_how_to_get_it(assay, checkout, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    status, _, err = assay("run")
    assert status == 2
    assert "prefect: not installed" in err
    assert "pip install -e '.[prefect]'" in err
    assert "`dvc repro` does the same" in err
    assert err.count("\n") == 1


def test_a_package_that_is_not_installed_is_one_line(assay, checkout, monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: importlib.import_module("no_such_package"))
    status, _, err = assay("doctor")
    assert (status, err) == (2, "error: no_such_package: not installed; `make install` installs everything\n")


def test_run_of_an_unknown_target(assay, checkout):
    status, _, err = assay("run", "train-nothing")
    assert status == 2
    assert "has no stage or study `train-nothing`" in err
    assert assay("run", "--study", "nothing")[0] == 2


def test_doctor_of_a_whole_project(assay, checkout):
    status, out, err = assay("doctor")
    assert (status, err) == (0, "")
    found = {line.split()[1]: line.split()[0] for line in out.splitlines() if not line.startswith(" ")}
    assert {found[name] for name in ("python", "dvc", "torch", "wordllama", "params.yaml", "profile")} == {"ok"}
    assert "missing" not in found.values()
    assert "1 stages, 1 would run: only-joint" in out
    assert "-> assay run" in out


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        (
            "params.yaml",
            "package: wordllama",
            "package: no-such-vectors",
            "missing  no-such-vectors        not installed",
        ),
        (
            "params.yaml",
            "head: mean",
            "head: max",
            "missing  params.yaml            params.yaml: models.mean.head: 'max'",
        ),
        ("pyproject.toml", '"dvc==3.67.1"', '"no-such-tool==1.0"', "missing  no-such-tool           not installed"),
        ("pyproject.toml", ">=3.11", ">=3.99", "missing  python"),
        ("dvc.yaml", "stages", "stags", "missing  dvc                    DVC:"),
    ],
)
def test_doctor_names_what_is_missing_with_the_remedy(assay, checkout, file, old, new, line):
    edit(file, old, new)
    status, out, _ = assay("doctor")
    assert status == 1
    lines = out.splitlines()
    at = next(number for number, text in enumerate(lines) if text.startswith(line))
    assert lines[at + 1].lstrip().startswith("-> ")


def test_doctor_notes_versions_that_are_not_the_locked_ones(assay, checkout):
    edit("requirements/lock.txt", "\ndvc==3.67.1", "\ndvc==3.0.0")
    edit("requirements/packages.txt", "wordllama==", "wordllama==9")
    edit("pyproject.toml", "torch==", "torch==9")
    status, out, _ = assay("doctor")
    assert status == 0
    assert "note     dvc                    3.67.1, but requirements/lock.txt says 3.0.0" in out
    assert "note     wordllama" in out
    assert "but pyproject.toml says ==9" in out
    assert "--no-deps --require-hashes -r requirements/packages.txt" in out


def test_doctor_without_prefect_only_notes_it(assay, checkout):
    edit("pyproject.toml", '"prefect==3.8.8"', '"no-such-prefect==3"')
    status, out, _ = assay("doctor")
    assert status == 0
    assert "note     no-such-prefect        not installed" in out


def edit(file: str, old: str, new: str) -> None:
    path = Path(file)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
