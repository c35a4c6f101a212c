"""What DVC allows a stage to be, run by the engine."""

import shutil
from pathlib import Path

import pytest

from tests.pipelines.toy_stages import edit, lines, pipeline, recorded, statuses


def test_a_frozen_stage_never_runs_and_hides_what_it_reads(project, reproduce):
    root = project(
        {
            "dvc.yaml": pipeline(
                above={"cmd": "cat input > a", "deps": ["input"], "outs": ["a"]},
                still={"cmd": "echo ran >> runs; cat a > b", "deps": ["a"], "outs": ["b"], "frozen": True},
                after={"cmd": "cat b > c", "deps": ["b"], "outs": ["c"]},
            ),
            "input": "one",
        }
    )
    missing = reproduce("after")
    assert statuses(missing) == {"still": "failed", "after": "blocked"}
    assert missing["still"]["reason"] == "missing data 'source': b"
    Path("a").write_text("DVC records also what a frozen stage reads")
    Path("b").write_text("by hand")
    assert statuses(reproduce("after")) == {"still": "ran", "after": "ran"}
    assert (root / "c").read_text() == "by hand"
    assert not Path("runs").exists()
    assert statuses(reproduce("after", force=True)) == {"still": "ran", "after": "ran"}
    assert not Path("runs").exists()
    Path("a").unlink()
    assert statuses(reproduce()) == {"above": "ran", "still": "skipped", "after": "skipped"}


def test_a_stage_that_always_changed_runs_but_what_reads_the_same_from_it_does_not(project, reproduce):
    stages = {
        "always": {"cmd": "echo ran >> runs; echo same > a", "outs": ["a"], "always_changed": True},
        "reader": {"cmd": "cat a > b", "deps": ["a"], "outs": ["b"]},
    }
    project({"dvc.yaml": pipeline(**stages)})
    assert statuses(reproduce()) == {"always": "ran", "reader": "ran"}
    assert statuses(reproduce()) == {"always": "ran", "reader": "skipped"}
    assert lines("runs") == ["ran", "ran"]


def test_a_stage_with_neither_input_nor_output_always_runs(project, reproduce):
    project({"dvc.yaml": pipeline(tick={"cmd": "echo ran >> runs"})})
    assert statuses(reproduce()) == statuses(reproduce()) == {"tick": "ran"}
    assert lines("runs") == ["ran", "ran"]
    assert recorded() == {"tick": {"cmd": "echo ran >> runs"}}


def test_a_stage_runs_in_its_folder_and_knows_where_it_is(project, reproduce):
    stage = {"cmd": "cat ../input > out; env > ../env", "wdir": "sub", "deps": ["../input"], "outs": ["out"]}
    root = project({"dvc.yaml": pipeline(a=stage), "input": "one", "sub/keep": ""})
    assert statuses(reproduce()) == {"a": "ran"}
    assert Path("sub/out").read_text() == "one"
    assert statuses(reproduce()) == {"a": "skipped"}
    assert {f"DVC_ROOT={root}", "DVC_STAGE=a", f"PWD={root}/sub", "PYTHONUNBUFFERED=1"} <= set(lines("env"))


def test_commands_of_a_list_run_one_after_the_other_until_one_fails(project, reproduce):
    commands = ["echo one > a", "echo two >> a; cd /", "test -e a && echo three >> a"]
    project({"dvc.yaml": pipeline(a={"cmd": commands, "outs": ["a"]}, b={"cmd": "\n".join(commands), "deps": ["a"]})})
    assert statuses(reproduce("a")) == {"a": "ran"}
    assert lines("a") == ["one", "two", "three"]
    assert recorded()["a"]["cmd"] == commands
    edit("dvc.yaml", "echo two", "echo failing; exit 4; echo two")
    failed = reproduce("a")["a"]
    assert (failed["status"], failed["reason"], failed["tail"]) == ("failed", "exit code 4", ["failing"])
    assert lines("a") == ["one"]


def test_an_output_that_persists_is_there_when_its_stage_runs(project, reproduce):
    outs = [{"kept": {"persist": True}}, "fresh"]
    stage = {"cmd": "cat input >> kept; cat input >> fresh", "deps": ["input"], "outs": outs}
    project({"dvc.yaml": pipeline(a=stage), "input": "one\n"})
    reproduce()
    Path("input").write_text("two\n")
    assert statuses(reproduce()) == {"a": "ran"}
    assert (lines("kept"), lines("fresh")) == (["one", "two"], ["two"])


def test_a_folder_is_an_output_and_an_input(project, reproduce):
    stages = {
        "make": {"cmd": "mkdir -p d/e; cp input d/e/x; date > d/y", "deps": ["input"], "outs": ["d"]},
        "read": {"cmd": "cat d/e/x > c", "deps": ["d"], "outs": ["c"]},
    }
    project({"dvc.yaml": pipeline(**stages), "input": "one"})
    assert statuses(reproduce()) == {"make": "ran", "read": "ran"}
    assert recorded()["make"]["outs"][0]["nfiles"] == 2
    assert statuses(reproduce()) == {"make": "skipped", "read": "skipped"}
    Path("d/e/x").unlink()
    Path("d/extra").write_text("")
    assert statuses(reproduce()) == {"make": "restored", "read": "skipped"}
    assert sorted(path.name for path in Path("d").rglob("*")) == ["e", "x", "y"]


def test_data_added_to_dvc_is_recorded_when_it_changed(project, reproduce, dvc):
    stage = {"cmd": "cat data/x > a", "deps": ["data"], "outs": ["a"]}
    root = project({"dvc.yaml": pipeline(a=stage), "data/x": "one"})
    assert dvc("add", "data", root=root).returncode == 0
    assert statuses(reproduce()) == {"data.dvc": "skipped", "a": "ran"}
    before = Path("data.dvc").read_text()
    Path("data/x").write_text("two")
    assert statuses(reproduce()) == {"data.dvc": "ran", "a": "ran"}
    assert Path("data.dvc").read_text() != before
    assert Path("a").read_text() == "two"
    assert "up to date" in dvc("status", root=root).stdout
    shutil.rmtree("data")
    outcomes = reproduce()
    assert statuses(outcomes) == {"data.dvc": "failed", "a": "blocked"}
    assert outcomes["data.dvc"]["reason"] == "missing data 'source': data"


def test_folders_have_a_dvc_yaml_and_a_dvc_lock_each(project, reproduce, dvc, monkeypatch):
    root = project(
        {
            "dvc.yaml": pipeline(a={"cmd": "cat input > a", "deps": ["input"], "outs": ["a"]}),
            "left/dvc.yaml": pipeline(b={"cmd": "cat ../a > b", "deps": ["../a"], "outs": ["b"]}),
            "right/dvc.yaml": pipeline(c={"cmd": "cat ../left/b > c", "deps": ["../left/b"], "outs": ["c"]}),
            "input": "one",
        }
    )
    assert statuses(reproduce("right/dvc.yaml")) == {"a": "ran", "left/dvc.yaml:b": "ran", "right/dvc.yaml:c": "ran"}
    assert Path("right/c").read_text() == "one"
    assert [list(recorded(f"{folder}/dvc.lock")) for folder in (".", "left", "right")] == [["a"], ["b"], ["c"]]
    assert "up to date" in dvc("status", root=root).stdout

    Path("input").write_text("two")
    monkeypatch.chdir(root / "left")
    outcomes = reproduce()
    assert statuses(outcomes) == {"../dvc.yaml:a": "ran", "b": "ran"}
    assert Path("b").read_text() == "two"
    assert Path(outcomes["b"]["log"]).is_relative_to(root / ".dvc/tmp")
    assert not Path(".dvc").exists()


def test_what_was_run_before_is_restored_without_its_commands(project, reproduce):
    stages = {
        "a": {"cmd": "echo a >> runs; cat input > a", "deps": ["input"], "outs": ["a"]},
        "b": {"cmd": "echo b >> runs; cat a > b", "deps": ["a"], "outs": ["b"]},
    }
    project({"dvc.yaml": pipeline(**stages), "input": "one"})
    for text in ("one", "two"):
        Path("input").write_text(text)
        assert statuses(reproduce()) == {"a": "ran", "b": "ran"}
    before = recorded()
    Path("input").write_text("one")
    assert statuses(reproduce()) == {"a": "restored", "b": "restored"}
    assert Path("b").read_text() == "one"
    assert recorded() != before
    Path("b").unlink()
    assert statuses(reproduce()) == {"a": "skipped", "b": "restored"}
    assert len(lines("runs")) == 4


# DVC keeps no run-cache of stages whose outputs persist.
@pytest.mark.parametrize("output", ["a", {"a": {"persist": True}}])
def test_pull_brings_results_from_the_remote(project, reproduce, dvc, tmp_path, output):
    stage = {"cmd": "echo ran >> runs; cat input > a", "deps": ["input"], "outs": [output]}
    root = project({"dvc.yaml": pipeline(a=stage), "input": "one"})
    assert dvc("remote", "add", "--default", "store", str(tmp_path / "store"), root=root).returncode == 0
    reproduce()
    assert dvc("push", root=root).returncode == 0
    Path("a").unlink()
    shutil.rmtree(".dvc/cache")
    assert statuses(reproduce(pull=True)) == {"a": "restored"}
    assert (Path("a").read_text(), lines("runs")) == ("one", ["ran"])
    Path("a").unlink()
    shutil.rmtree(".dvc/cache")
    assert statuses(reproduce()) == {"a": "ran"}


def test_force_single_item_and_downstream(chain, reproduce):
    assert set(statuses(reproduce()).values()) == {"ran"}
    assert statuses(reproduce("middle-toy", force=True)) == dict.fromkeys(
        ["first", "middle-toy@x", "middle-toy@y"], "ran"
    )
    Path("input").write_text("two")
    assert statuses(reproduce("middle-toy@x", single_item=True)) == {"middle-toy@x": "skipped"}
    assert statuses(reproduce("last", "first", single_item=True)) == {"first": "ran", "last": "skipped"}
    assert statuses(reproduce("middle-toy@x", downstream=True)) == {"middle-toy@x": "ran", "last": "ran"}
    assert Path("c").read_text() == "twoone"
