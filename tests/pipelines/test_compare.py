"""Results of two states: what is called better or worse, why they differ, and what `assay diff` prints and returns."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.compare import Change, Side, _adjusted, _measure, _Values, compare
from pipelines.revisions import open_files
from stages.common import measurements
from stages.common.cells import Place
from stages.common.measurements import About, Measurement
from stages.common.settings import PARAMETERS

PARAMETERS_OF_TOY: dict[str, Any] = {
    "profile": "quick",
    "toy": {
        "dataset": "trees",
        "seeds": [0, 1, 2, 3, 4],
        "train": {"grid": {"variant": ["one", "two"]}, "base": {"epochs": 3}},
        "attack": {"grid": {"variant": ["one"]}},
    },
}
LOCK = """\
schema: '2.0'
stages:
  prepare@trees:
    cmd: python -m stages.prepare --dataset trees
    deps:
    - {{path: stages/prepare, md5: {code}}}
    - {{path: trees.csv, md5: a0}}
    outs:
    - {{path: data/prepared/trees, md5: b0}}
  train-toy@one:
    cmd: python -m stages.train --study toy --cell one
    deps:
    - {{path: data/prepared/trees, md5: b0}}
    - {{path: stages/train, md5: c0}}
    - {{path: requirements/packages.txt, md5: d0}}
    params:
      params.yaml: {{toy.train.base: {{epochs: {epochs}}}}}
    outs:
    - {{path: reports/metrics/toy/one/train.json, md5: e0}}
"""
VALUES = np.array([0.80, 0.82, 0.79, 0.81, 0.83])
UNSEEN = Side(0.0, None, None, 1)
NOISE = np.array([0.004, -0.006, 0.005, -0.003, 0.001])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with the results of two cells, committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    Path(PARAMETERS).write_text(json.dumps(PARAMETERS_OF_TOY))
    Path("dvc.lock").write_text(LOCK.format(code="0a", epochs=3))
    Path("requirements").mkdir()
    Path("requirements/lock.txt").write_text("numpy==2.0 \\\n    --hash=x\ntorch==2.13.0\n")
    write("one", accuracy=VALUES, parameters=[50.0] * 5)
    write("two", accuracy=VALUES)
    write("one", "attack", split="pool", auc=[0.60, 0.61, 0.62, 0.60, 0.61])
    git("init", "--quiet")
    commit("before")
    return tmp_path


def write(
    cell: str, verb: str = "train", split: str = "test", first_seed: int = 0, n: int | None = None, **metrics: Any
) -> None:
    place = Place("toy", verb, cell)
    about = About("toy", cell, verb, "model", place.command, "ab" * 32, dataset="trees", model="mean")
    seeds = range(first_seed, first_seed + len(next(iter(metrics.values()))))
    by_seed = {
        seed: {f"{split}/{name}": Measurement(float(values[place_]), n) for name, values in metrics.items()}
        for place_, seed in enumerate(seeds)
    }
    measurements.write(place.metrics, about, by_seed)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True)


def commit(message: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


def changes(before: str = "HEAD", after: str | None = None) -> dict[str, Change]:
    return {change.name: change for change in compare(open_files(before), open_files(after)).changes}


def verdicts() -> dict[str, str]:
    return {name: change.verdict for name, change in changes().items() if change.verdict != "equal"}


def test_nothing_changed(root):
    assert verdicts() == {}
    assert len(changes()) == 4


def test_noise_is_noise(root):
    write("one", accuracy=VALUES + NOISE, parameters=[50.0] * 5)
    found = changes()["toy/one/test/accuracy"]
    assert found.verdict == "within noise"
    assert found.n == 5
    assert found.low < 0 < found.high


def test_what_all_seeds_say_is_no_noise(root):
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    write("two", accuracy=VALUES + 0.05 + NOISE)
    assert verdicts() == {"toy/one/test/accuracy": "worse", "toy/two/test/accuracy": "better"}
    found = changes()["toy/one/test/accuracy"]
    assert found.difference == pytest.approx(-0.05 + NOISE.mean())
    assert found.before.mean == pytest.approx(VALUES.mean())


def test_nearer_to_its_target_is_better(root):
    # Below 0.5 an attack does as well as above.
    write("one", "attack", split="pool", auc=[0.45, 0.46, 0.44, 0.45, 0.46])
    assert verdicts() == {"toy/one/pool/auc": "better"}
    write("one", "attack", split="pool", auc=[0.35, 0.36, 0.34, 0.35, 0.34])
    assert verdicts() == {"toy/one/pool/auc": "worse"}


def test_what_has_no_direction_has_changed(root):
    write("one", accuracy=VALUES, parameters=[60.0] * 5)
    assert verdicts() == {"toy/one/test/parameters": "changed"}
    write("one", accuracy=VALUES, parameters=[40.0, 61.0, 50.0, 45.0, 55.0])
    assert verdicts() == {"toy/one/test/parameters": "within noise"}


def test_the_interval_of_a_share_ends_where_a_share_ends(root):
    write("two", accuracy=[0.2, 0.99, 0.5, 0.9, 1.0])
    after = changes()["toy/two/test/accuracy"].after
    assert (after.low > 0.2, after.high) == (True, 1.0)


def test_intervals_are_those_of_the_tables(root):
    write("two", n=1, accuracy=[0.0, 1.0, 0.0, 0.0, 0.0], epsilon=[0.0, 0.0, 0.0, 0.0, 1.0])
    trials, epsilon = (changes()[f"toy/two/test/{metric}"].after for metric in ("accuracy", "epsilon"))
    # One of five by Wilson's score interval (Wilson 1927).
    assert (trials.low, trials.high) == pytest.approx((0.0362, 0.6245), abs=1e-4)
    assert (epsilon.low, epsilon.high > 0.2) == (0.0, True)


def test_how_computers_round_is_no_change(root):
    write("one", accuracy=VALUES - 1e-10, parameters=[50.0] * 5)
    assert verdicts() == {"toy/one/test/accuracy": "within noise"}


def test_a_tolerance_is_that_of_the_last_pattern_that_fits(root):
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    write("two", accuracy=VALUES - 0.05 + NOISE)
    tolerance = {"toy/*/test/accuracy": {"absolute": 0.1}, "toy/two/*": {"relative": 0.01}}
    Path(PARAMETERS).write_text(json.dumps(PARAMETERS_OF_TOY | {"diff": {"tolerance": tolerance}}))
    assert verdicts() == {"toy/one/test/accuracy": "within noise", "toy/two/test/accuracy": "worse"}


def test_seeds_that_differ_are_compared_unpaired(root):
    write("one", accuracy=VALUES - 0.2, parameters=[50.0] * 5, first_seed=10)
    found = changes()["toy/one/test/accuracy"]
    assert (found.verdict, found.n) == ("worse", 5)


def test_one_seed_shows_no_noise_to_compare_with(root):
    write("one", accuracy=VALUES[:1] - 0.2, parameters=[50.0])
    assert changes()["toy/one/test/accuracy"].verdict == "changed"


def test_the_same_few_examples_in_every_seed_are_noise(root):
    write("two", n=400, accuracy=VALUES)
    commit("of 400 examples")
    write("two", n=400, accuracy=VALUES - 1 / 400)
    assert verdicts() == {"toy/two/test/accuracy": "within noise"}
    write("two", n=400, accuracy=VALUES - 8 / 400)
    assert verdicts() == {"toy/two/test/accuracy": "worse"}


def test_one_shared_seed_is_compared_with_itself(root):
    write("two", accuracy=VALUES[:1])
    found = changes()["toy/two/test/accuracy"]
    assert (found.verdict, found.difference) == ("within noise", 0.0)


def test_what_is_no_text_is_one_line(root, assay):
    Path("reports/metrics/toy/one/train.json").write_bytes(b"\xff\xfe")
    status, _, err = assay("diff")
    assert (status, err.count("\n")) == (2, 1)
    assert "not JSON" in err


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_a_reader_that_has_enough_is_no_error_and_hides_none(root, form):
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    for options, status in (([], 0), (["--fail-on", "worse"], 1)):
        command = [str(Path(sys.executable).parent / "assay"), "diff", "--format", form, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert (process.stderr.read(), process.wait()) == (b"", status)


def test_cells_come_and_go(root):
    Path("reports/metrics/toy/two/train.json").unlink()
    write("one", accuracy=VALUES, macro_f1=VALUES, parameters=[50.0] * 5)
    assert verdicts() == {"toy/two/test/accuracy": "gone", "toy/one/test/macro_f1": "new"}


def test_one_side_may_have_no_results_at_all(root):
    git("rm", "-rq", "--cached", "reports")
    git("commit", "--quiet", "--message", "none")
    assert set(verdicts().values()) == {"new"}


def test_why_is_what_changed_in_the_stage_and_in_all_before_it(root):
    write("one", accuracy=VALUES - 0.05, parameters=[50.0] * 5)
    write("two", accuracy=VALUES - 0.05)
    Path("dvc.lock").write_text(LOCK.format(code="0b", epochs=5).replace("d0", "d1"))
    Path("requirements/lock.txt").write_text("numpy==2.1\n")
    found = compare(open_files("HEAD"), open_files(None))
    why = {change.name: change.why for change in found.changes}
    assert why["toy/one/test/accuracy"] == (
        "parameter toy.train.base.epochs: 3 -> 5",
        "lock requirements/packages.txt",
        "code stages/prepare",
    )
    assert why["toy/two/test/accuracy"] == ()
    assert found.environment == ["numpy 2.0 -> 2.1", "torch 2.13.0 -> not there"]


def test_two_revisions_are_compared_without_a_checkout(root):
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    commit("worse")
    git("tag", "v1")
    write("one", accuracy=VALUES, parameters=[50.0] * 5)
    assert changes("HEAD~1", "v1")["toy/one/test/accuracy"].verdict == "worse"
    assert changes("v1", "HEAD~1")["toy/one/test/accuracy"].verdict == "better"
    assert {change.verdict for change in changes("HEAD~1").values()} == {"equal"}


def test_exit_status_says_worse_only_if_asked(root, assay):
    assert assay("diff", "--fail-on", "worse")[0] == 0
    write("one", accuracy=VALUES + NOISE, parameters=[50.0] * 5)
    assert assay("diff", "--fail-on", "worse")[0] == 0
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    status, out, _ = assay("diff")
    assert status == 0
    assert "HEAD -> working tree: 1 worse, 3 equal" in out
    assert "toy/one/test/accuracy ↑" in out
    assert "worse (p = " in out
    assert assay("diff", "--fail-on", "worse")[0] == 1


def test_formats_hold_the_same(root, assay):
    write("one", accuracy=VALUES - 0.05 + NOISE, parameters=[50.0] * 5)
    found = json.loads(assay("diff", "--format", "json")[1])
    rows = list(csv.DictReader(io.StringIO(assay("diff", "--format", "csv")[1])))
    assert len(found["changes"]) == len(rows) == 4
    (worse,) = [change for change in found["changes"] if change["verdict"] == "worse"]
    (row,) = [row for row in rows if row["verdict"] == "worse"]
    assert float(row["difference"]) == worse["difference"]
    assert float(row["before_mean"]) == worse["before"]["mean"]
    shown = assay("diff", "--format", "markdown")[1]
    assert shown.startswith("**HEAD -> working tree: 1 worse, 3 equal**\n\n| metric | before |")
    assert "| toy/one/test/accuracy ↑ | 0.81 [" in shown


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("reports/metrics/toy/one/train.json", "{", "train.json (working tree): not JSON"),
        ("reports/metrics/toy/one/train.json", '{"metrics": {}}', "train.json: about: field required"),
        ("params.yaml", "profile: [", "params.yaml (working tree): not YAML"),
        ("params.yaml", json.dumps(PARAMETERS_OF_TOY | {"diff": {"tolerance": {"*": 1}}}), "diff.tolerance.*: 1"),
    ],
)
def test_what_cannot_be_read_is_one_line(root, assay, path, text, message):
    Path(path).write_text(text)
    status, out, err = assay("diff")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_number_that_is_none_is_one_line(root, assay):
    path = Path("reports/metrics/toy/one/train.json")
    path.write_text(path.read_text().replace("0.8,", "NaN,", 1).replace('"value": 0.8\n', '"value": NaN\n', 1))
    status, _, err = assay("diff")
    assert (status, err.count("\n")) == (2, 1)
    assert "input should be a finite number" in err


def test_results_of_an_older_schema_are_one_line_that_says_whose(root, assay):
    path = Path("reports/metrics/toy/one/train.json")
    now = path.read_text()
    path.write_text(now.replace("test/accuracy", "test/correctness"))
    status, _, err = assay("diff")
    assert (status, err.count("\n")) == (2, 1)
    assert "test/correctness: is not split/metric[/group] of a known metric; run the stage" in err
    commit("older")
    git("tag", "v0")
    path.write_text(now)
    status, _, err = assay("diff", "v0")
    assert (status, err.count("\n")) == (2, 1)
    assert "error: v0: reports/metrics/toy/one/train.json: metrics > test/correctness" in err
    assert "compare with a commit that this one can read" in err


def test_an_unknown_revision_is_one_line(root, assay):
    status, out, err = assay("diff", "v99")
    assert (status, out) == (2, "")
    assert err == "error: v99: git knows no such revision; give a commit, a tag or a branch\n"
    assert assay("diff", "--output=x")[0] == 2


def test_a_shallow_clone_is_told_to_fetch(root, assay, tmp_path_factory, monkeypatch):
    commit_all = tmp_path_factory.mktemp("shallow") / "clone"
    write("two", accuracy=VALUES - 0.1)
    commit("after")
    git("clone", "--quiet", "--depth", "1", f"file://{root}", str(commit_all))
    monkeypatch.chdir(commit_all)
    status, _, err = assay("diff", "HEAD~1")
    assert status == 2
    assert "`git fetch --unshallow`: this clone is shallow" in err


def test_false_alarms_come_no_more_often_than_the_level(root):
    """Two runs of the same thing, twenty metrics in each of 200 studies: the share with any alarm at all."""
    draws = np.random.default_rng(0).normal(0.7, 0.02, size=(200, 20, 2, 5))
    alarms = 0
    for study in draws:
        sides = [[_Values("fraction", "max", UNSEEN, dict(enumerate(side))) for side in pair] for pair in study]
        measured = [_measure(("toy", str(number)), *pair) for number, pair in enumerate(sides)]
        alarms += any(p < 0.05 for p in _adjusted(measured).values())
    # The standard error of a share of .05 in 200 is .015.
    assert alarms / 200 <= 0.1
