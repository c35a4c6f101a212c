import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import cli, execution

ROOT = Path(__file__).parents[2]
FAILING = """\
stages:
  bad: {cmd: seq 40; exit 3, outs: [bad]}
  after: {cmd: date > after, deps: [bad], outs: [after]}
  beside: {cmd: date > beside, outs: [beside]}
"""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], ["run", "targets", "validate", "doctor", "profile", "dvc repro"]),
        (["run", "--help"], ["--jobs", "--keep-going", "--dry-run", "Exit status", "train-joint"]),
        (["profile", "--help"], ["use", "show"]),
        (["profile", "use", "--help"], ["--force"]),
        (["targets", "--help"], ["STUDY", "one line"]),
        (["doctor", "--help"], ["missing", "exit 1"]),
        (["diff", "--help"], ["--format", "--fail-on", "Exit status", "tolerance"]),
        (["claims", "--help"], ["papers", "STUDY"]),
        (["show", "--help"], ["STUDY", "tables"]),
        (["report", "--help"], ["--open", "train nothing"]),
        (["crate", "--help"], ["FILE", "Workflow Run RO-Crate", "git holds"]),
        (["--version"], ["assay 0"]),
    ],
)
def test_help_and_version(assay, arguments, shown):
    status, out, _ = assay(*arguments)
    assert status == 0
    assert not [text for text in shown if text.lower() not in out.lower()]


def test_help_imports_nothing_that_takes_long():
    code = "import sys; from pipelines import cli; sys.argv = ['assay', '--help']; cli.main()"
    heavy = "{'dvc', 'prefect', 'pandas', 'torch'} & set(sys.modules)"
    code = f"import atexit, sys; atexit.register(lambda: print({heavy})); {code}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0
    assert "Usage: assay" in said.stdout
    assert said.stdout.endswith("set()\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--jobs"], ["run", "-j", "0"], ["targets"]])
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


def test_validate_reads_claims_and_names_a_profile_that_is_not_there(assay, checkout):
    Path("reports/claims").mkdir(parents=True)
    Path("reports/claims/joint.yaml").write_text("claims: [")
    status, _, err = assay("validate")
    assert (status, err.count("\n")) == (2, 1)
    assert "reports/claims/joint.yaml: not YAML" in err
    Path("reports/claims/joint.yaml").unlink()
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("profile: quick", "profile: nope"))
    status, _, err = assay("validate")
    assert status == 2
    assert "params.yaml: profile: there is no `nope`; a profile is a file in profiles/; there are: " in err


def test_profile_use_and_show(assay, checkout):
    assert assay("profile", "use", "smoke", "--force")[:2] == (0, "params.yaml: profile smoke\n")
    assert assay("profile", "show")[1].startswith("smoke (of quick, full, grid, paper, smoke): no settings differ")
    assert "joint.seeds: [0, 1] -> [0, 1, 2]" in assay("profile", "show", "quick")[1]
    edit("params.yaml", "seeds: [0, 1]", "seeds: [1]")
    assert assay("profile", "use", "quick")[0] == 2
    assert assay("profile", "use", "quick", "--force")[0] == 0
    assert Path("params.yaml").read_bytes() == (ROOT / "profiles/quick.yaml").read_bytes()
    status, _, err = assay("profile", "use", "huge")
    assert status == 2
    assert "has no profile `huge`; it has: quick, full, grid, paper, smoke" in err


def test_profile_that_is_not_complete_says_what_to_add(assay, checkout):
    status, out, err = assay("profile", "use", "paper", "--force")
    assert (status, out) == (2, "params.yaml: profile paper\n")
    assert "datasets.newsgroups" in err
    assert "revision" in err


def test_run_with_nothing_to_do_starts_no_prefect(assay, checkout, dvc):
    assert dvc("repro", root=checkout).returncode == 0
    code = "import sys; from pipelines import cli; sys.argv = ['assay', 'run', 'joint']; cli.main()"
    code = f"import atexit, sys; atexit.register(lambda: print('prefect' in sys.modules)); {code}"
    # -P: the folder `stages` of the checkout is not the package.
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "nothing to do: 1 stages are up to date\nFalse\n")


def test_run_validates_first(assay, checkout):
    edit("params.yaml", "head: mean", "head: max")
    status, _, err = assay("run")
    assert status == 2
    assert "models.mean.head" in err
    assert not Path("now").exists()


def test_run_without_prefect_says_how_to_get_it(assay, chain, monkeypatch):
    monkeypatch.setattr(execution, "find_spec", lambda _: None)
    status, out, err = assay("run")
    assert (status, out) == (2, "")
    assert "prefect: not installed; install it: " in err
    assert "-m pip install 'assay[prefect]', or give --no-prefect" in err
    assert err.count("\n") == 1
    assert not Path("a").exists()
    assert assay("run", "--no-prefect")[0] == 0


def test_a_package_that_is_not_installed_is_one_line(assay, checkout, monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: importlib.import_module("no_such_package"))
    status, _, err = assay("doctor")
    assert (status, err) == (2, "error: no_such_package: not installed; `make install` installs everything\n")


def test_run_of_an_unknown_target(assay, checkout):
    for arguments, said in [
        (("train-nothing",), "nothing is named `train-nothing`"),
        (("--dry-run", "nothing"), "groups are: only-joint"),
    ]:
        status, out, err = assay("run", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: dvc.yaml: ")
        assert said in err


def test_run_outside_a_dvc_repository_is_wrong_usage(assay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = assay("run")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "not inside of a DVC repository" in err


def test_dry_run_says_what_would_run_and_why_and_leaves_everything(assay, chain):
    before = sorted(Path().rglob("*"))
    status, out, err = assay("run", "--dry-run", "middle-toy@x", "--jobs", "3")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "first",
        "  dependency modified: input",
        "  output deleted: a",
        "middle-toy@x",
        "  dependency deleted: a",
        "  dependency new: params.yaml",
        "  output deleted: b-x",
        "2 of 2 stages would run",
    ]
    assert [path for path in sorted(Path().rglob("*")) if path not in before and ".dvc" not in path.parts] == []


def test_dry_run_as_json(assay, chain):
    assert assay("run", "--no-prefect")[0] == 0
    Path("params.yaml").write_text("rate: 2.0e-5\n")
    status, out, err = assay("run", "--dry-run", "--json")
    assert (status, err) == (0, "")
    modified = "parameter modified: rate (1e-05 -> 2e-05)"
    assert json.loads(out) == [
        {"stage": "middle-toy@x", "changes": [modified], "upstream": ["first"]},
        {"stage": "middle-toy@y", "changes": [modified], "upstream": ["first"]},
        {"stage": "last", "changes": [], "upstream": ["middle-toy@x", "middle-toy@y"]},
    ]
    forced = json.loads(assay("run", "--dry-run", "--json", "--force", "first")[1])
    assert forced == [{"stage": "first", "changes": [], "upstream": []}]


def test_run_shows_what_happens_then_has_nothing_to_do(assay, chain):
    status, out, err = assay("run", "--no-prefect", "--jobs", "1")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "4 ran"
    assert [line for line in lines if "|" in line] == ["middle-toy@x | cell x", "middle-toy@y | cell y"]
    assert [line for line in lines if line.startswith("last: ran")]
    assert assay("run") == (0, "nothing to do: 4 stages are up to date\n", "")
    assert assay("run", "--dry-run") == (0, "nothing to do: 4 stages are up to date\n", "")
    assert json.loads(assay("run", "--json", "first")[1])[0]["status"] == "skipped"
    Path("a").unlink()
    status, out, _ = assay("run", "--no-prefect")
    assert (status, out.splitlines()[-1]) == (0, "1 restored, 3 skipped")


def test_options_choose_what_is_visited(assay, chain):
    def ran(*options: str) -> list[str]:
        status, out, _ = assay("run", "--no-prefect", "--json", *options)
        assert status == 0
        return [outcome["stage"] for outcome in json.loads(out) if outcome["status"] == "ran"]

    assert ran("toy") == ["first", "middle-toy@x", "middle-toy@y"]
    assert ran() == ["last"]
    assert ran("--force", "--single-item", "middle-toy@y") == ["middle-toy@y"]
    assert ran("-f", "--downstream", "middle-toy") == ["middle-toy@x", "middle-toy@y", "last"]


def test_json_is_all_that_is_printed_also_when_dvc_has_something_to_say(project, dvc):
    frozen = "  frozen: {cmd: cat a > b, deps: [a], outs: [b], frozen: true}\n"
    stage = "  a: {cmd: echo noise; cat input > a, deps: [input], outs: [a]}\n"
    root = project({"dvc.yaml": f"stages:\n{stage}", "input": "one"})
    for text in ("two", "one"):
        assert dvc("repro", root=root).returncode == 0
        Path("input").write_text(text)
    Path("dvc.yaml").write_text(f"stages:\n{stage}{frozen}")
    Path("b").write_text("by hand")
    command = [Path(sys.executable).parent / "assay", "run", "--json", "--no-prefect"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    assert {each["stage"]: each["status"] for each in json.loads(said.stdout)} == {"a": "restored", "frozen": "ran"}


def test_a_failing_stage_is_told_with_its_last_lines_and_its_log(assay, project):
    root = project({"dvc.yaml": FAILING})
    status, out, err = assay("run", "--no-prefect", "--jobs", "1")
    assert status == 1
    log = root / ".dvc/tmp/assay/logs/bad.log"
    tail = [f"  {number}" for number in range(21, 41)]
    assert err.splitlines() == ["", "bad failed: exit code 3", *tail, f"all of its output: {log}"]
    assert log.read_text().splitlines()[0] == "1"
    assert "after: blocked (reads from bad)" in out
    assert out.splitlines()[-1] == "1 failed, 1 blocked, 1 stopped"
    assert not Path("beside").exists()


def test_keep_going_runs_the_rest_and_fails_all_the_same(assay, project):
    project({"dvc.yaml": FAILING})
    status, out, _ = assay("run", "--no-prefect", "--jobs", "1", "--keep-going", "--json")
    assert status == 1
    assert [outcome["status"] for outcome in json.loads(out)] == ["failed", "blocked", "ran"]
    assert Path("beside").exists()


def test_a_second_run_beside_one_at_work_is_refused_with_its_process(assay, project):
    project({"dvc.yaml": "stages: {slow: {cmd: echo > begun; while ! test -e end; do sleep 0.05; done}}"})
    command = [Path(sys.executable).parent / "assay", "run", "--no-prefect"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 20
        while not Path("begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        try:
            status, out, err = assay("run", "--no-prefect")
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert f"another `assay run` is at work here (process {first.pid}); wait for it" in err
            assert assay("run", "--dry-run")[0] == 0
        finally:
            Path("end").touch()
        assert first.wait(20) == 0


def test_run_in_a_repository_that_is_not_this_project(assay, project, monkeypatch):
    root = project(
        {
            "dvc.yaml": "stages: {make: {cmd: cat input > made, deps: [input], outs: [made]}}",
            "sub/dvc.yaml": "stages: {use: {cmd: cat ../made > used, deps: [../made], outs: [used]}}",
            "sub/deep/keep": "",
            "input": "one",
        }
    )
    monkeypatch.chdir(root / "sub")
    status, out, _ = assay("run", "--no-prefect")
    assert (status, out.splitlines()[-1]) == (0, "2 ran")
    assert (root / "sub/used").read_text() == "one"
    assert sorted(path.name for path in root.rglob("dvc.lock")) == ["dvc.lock", "dvc.lock"]
    (root / "input").write_text("two")
    monkeypatch.chdir(root / "sub/deep")
    status, out, _ = assay("run", "--no-prefect", "../dvc.yaml:use")
    assert (status, (root / "sub/used").read_text()) == (0, "two")
    listed = subprocess.run(["git", "status", "--porcelain", "-uall"], cwd=root, capture_output=True, text=True).stdout
    files = [
        ".gitignore",
        "dvc.lock",
        "dvc.yaml",
        "input",
        "sub/.gitignore",
        "sub/deep/keep",
        "sub/dvc.lock",
        "sub/dvc.yaml",
    ]
    assert [line[3:] for line in listed.splitlines() if ".dvc" not in line] == files


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
