"""What the engine runs, in which order and with what; repositories without params.yaml unless it is in the test."""

import json
import shutil
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipelines import execution, session
from pipelines.resources import cores
from pipelines.workplace import Workplace
from stages.common.errors import InputError


def pipeline(**stages):
    """Return a dvc.yaml, which is YAML also when it is written as JSON."""
    return json.dumps({"stages": stages}, indent=1)


def timed(name, *deps, **meta):
    """Return a stage that notes when its command begins and ends."""
    cmd = f"echo + {name} >> times; sleep 0.3; echo - {name} >> times; date > {name}"
    return {"cmd": cmd, "deps": list(deps), "outs": [name], "meta": {"assay": meta}}


def begun():
    return [line[2:] for line in Path("times").read_text().splitlines() if line.startswith("+")]


def at_once():
    """Return which stages ran at the same time, each time one began or ended."""
    running, found = set(), []
    for line in Path("times").read_text().splitlines():
        (running.add if line[0] == "+" else running.remove)(line[2:])
        found.append(set(running))
    return found


def most_at_once():
    return max(map(len, at_once()))


def statuses(outcomes):
    return {name: outcome["status"] for name, outcome in outcomes.items()}


def recorded(path="dvc.lock"):
    lock = Path(path)
    return YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}


def edit(file, old, new):
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def lines(file):
    return Path(file).read_text().splitlines()


# In which order, and how many at once


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_as_many_stages_run_at_once_as_there_are_jobs(project, reproduce, jobs):
    project({"dvc.yaml": pipeline(**{name: timed(name) for name in "abcd"})})
    assert set(statuses(reproduce(jobs=jobs)).values()) == {"ran"}
    assert most_at_once() == jobs


def test_a_stage_waits_for_all_it_reads_from(project, reproduce):
    project({"dvc.yaml": pipeline(last=timed("last", "a", "b"), a=timed("a"), b=timed("b", "c"), c=timed("c"))})
    assert list(statuses(reproduce(jobs=4))) == ["a", "c", "b", "last"]
    events = lines("times")
    assert events.index("- c") < events.index("+ b")
    assert max(events.index("- a"), events.index("- b")) < events.index("+ last")


def test_the_longest_begins_first_and_an_unknown_one_counts_as_the_average(project, reproduce):
    root = project({"dvc.yaml": pipeline(**{name: timed(name) for name in "abcd"})})
    Workplace(root).journal.mkdir(parents=True)
    Workplace(root).remember({"a": 1, "b": 6, "c": 2})
    reproduce(jobs=1)
    assert begun() == ["b", "d", "c", "a"]


def test_without_durations_the_order_is_that_of_dvc_repro(project, reproduce):
    project({"dvc.yaml": pipeline(**{name: timed(name) for name in "bca"})})
    assert list(reproduce(jobs=1)) == begun()


def test_what_much_waits_for_begins_first(project, reproduce):
    root = project({"dvc.yaml": pipeline(alone=timed("alone"), head=timed("head"), tail=timed("tail", "head"))})
    Workplace(root).journal.mkdir(parents=True)
    Workplace(root).remember({"alone": 5, "head": 1, "tail": 10})
    reproduce(jobs=1)
    assert begun() == ["head", "tail", "alone"]


def test_what_a_killed_run_left_half_written_is_removed(project, reproduce):
    root = project({"dvc.yaml": pipeline(a=timed("a"), b={"cmd": "mkdir -p sub; date > sub/b", "outs": ["sub/b"]})})
    (root / "sub").mkdir()
    left = [root / name for name in (".dvc.lock.incomplete", "..gitignore.incomplete", "sub/..gitignore.incomplete")]
    others = root / "mine.incomplete"
    for _ in range(2):
        for path in [*left, others]:
            path.write_text("half")
        # The second time nothing is to be done.
        reproduce()
        assert [path for path in left if path.exists()] == []
    assert others.exists()


def test_durations_and_logs_are_the_same_from_each_folder(project, reproduce, monkeypatch):
    root = project({"dvc.yaml": pipeline(a=timed("a")), "sub/dvc.yaml": pipeline(b={"cmd": "echo said; exit 1"})})
    monkeypatch.chdir(root / "sub")
    outcomes = reproduce("../dvc.yaml:a", "b", keep_going=True)
    assert list(Workplace(root).durations()) == ["a"]
    monkeypatch.chdir(root)
    assert outcomes["b"]["log"] == reproduce("sub/dvc.yaml:b")["sub/dvc.yaml:b"]["log"]


def test_durations_of_what_ran_are_kept(project, reproduce):
    root = project({"dvc.yaml": pipeline(a=timed("a"), bad={"cmd": "exit 1", "deps": ["a"]})})
    reproduce()
    durations = Workplace(root).durations()
    assert list(durations) == ["a"]
    assert 0.3 <= durations["a"] < 10
    reproduce()
    assert Workplace(root).durations() == durations


# What a stage declares to need


def test_cores_that_are_declared_are_respected(project, reproduce, monkeypatch):
    monkeypatch.setattr("pipelines.resources.cores", lambda: 4)
    asked = {"a": 2, "b": 2, "c": 2, "d": 2, "e": 3}
    project({"dvc.yaml": pipeline(**{name: timed(name, cpus=cpus) for name, cpus in asked.items()})})
    assert set(statuses(reproduce(jobs=8)).values()) == {"ran"}
    assert most_at_once() == 2
    assert {"e"} in at_once()
    assert not [running for running in at_once() if "e" in running and len(running) > 1]


def test_a_stage_that_asks_for_more_cores_than_there_are_runs_alone(project, reproduce):
    stages = {name: timed(name, cpus=0.1) for name in "abc"}
    project({"dvc.yaml": pipeline(**stages, large=timed("large", cpus=cores() + 1))})
    assert statuses(reproduce(jobs=8))["large"] == "ran"
    assert most_at_once() > 1
    events = lines("times")
    assert events[events.index("+ large") + 1] == "- large"


def test_a_large_stage_is_not_overtaken_for_ever(project, reproduce, monkeypatch):
    monkeypatch.setattr("pipelines.resources.cores", lambda: 2)
    monkeypatch.setattr("pipelines.engine.OVERTAKEN", 3)
    small = {f"s{number}": timed(f"s{number}", cpus=1) for number in range(8)}
    apart = {f"z{number}": timed(f"z{number}") for number in range(4)}
    root = project({"dvc.yaml": pipeline(first=timed("first", cpus=1), **small, **apart, large=timed("large", cpus=2))})
    Workplace(root).journal.mkdir(parents=True)
    # The first one is begun first, and the large one comes next, but has to wait for it.
    Workplace(root).remember({"first": 9, "large": 8} | dict.fromkeys(small, 2) | dict.fromkeys(apart, 1))
    assert set(statuses(reproduce(jobs=3)).values()) == {"ran"}
    before = begun()[: begun().index("large")]
    assert before[0] == "first"
    assert len([name for name in before if name in small]) == 3
    # What needs none of what it lacks goes on.
    assert [running for running in at_once() if "large" in running and running & set(apart)]


def test_memory_that_is_declared_is_respected(project, reproduce):
    most = f"{psutil.virtual_memory().total * 2 // 3 // 2**20} MiB"
    project({"dvc.yaml": pipeline(a=timed("a", memory=most), b=timed("b", memory=most))})
    assert statuses(reproduce(jobs=8)) == {"a": "ran", "b": "ran"}
    assert most_at_once() == 1


def test_stages_get_gpus_of_their_own(project, reproduce, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    see = "printf %s $CUDA_VISIBLE_DEVICES > sees-"
    stages = {name: timed(name, gpus=gpus) for name, gpus in {"a": 1, "b": 1, "both": 2}.items()} | {
        "none": timed("none")
    }
    for name, stage in stages.items():
        stage["cmd"] = f"{see}{name}; {stage['cmd']}"
    project({"dvc.yaml": pipeline(**stages)})
    assert set(statuses(reproduce(jobs=8)).values()) == {"ran"}
    assert {Path("sees-a").read_text(), Path("sees-b").read_text()} == {"3", "GPU-5"}
    assert Path("sees-both").read_text() == Path("sees-none").read_text() == "3,GPU-5"
    assert any({"a", "b"} <= running for running in at_once())
    assert not [running for running in at_once() if "both" in running and running & {"a", "b"}]


@pytest.mark.parametrize(("meta", "said"), [({"gpus": 1}, "1 asked for, 0 here"), ({"memory": "999999 GiB"}, "asked")])
def test_what_this_machine_cannot_give_is_refused_before_anything_runs(project, reproduce, monkeypatch, meta, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project({"dvc.yaml": pipeline(first=timed("first"), greedy=timed("greedy", **meta))})
    with pytest.raises(InputError, match=rf"greedy: meta\.assay\.\w+: .*{said}"):
        reproduce()
    assert not Path("times").exists()


@pytest.mark.parametrize(
    ("retries", "status", "tries"), [(0, "failed", 1), (1, "failed", 2), (2, "ran", 3), (5, "ran", 3)]
)
def test_a_failure_is_tried_again_as_often_as_declared(project, reproduce, retries, status, tries):
    cmd = "echo try >> tries; test ! -e a || echo dirty; date > a; test $(wc -l < tries) -ge 3"
    project({"dvc.yaml": pipeline(a={"cmd": cmd, "outs": ["a"], "meta": {"assay": {"retries": retries}}})})
    outcome = reproduce()["a"]
    assert (outcome["status"], len(lines("tries"))) == (status, tries)
    # What a failed try wrote is gone before the next.
    assert outcome["tail"] == []
    assert list(recorded()) == (["a"] if status == "ran" else [])


# What DVC allows a stage to be


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


# When something goes wrong


BROKEN = pipeline(
    bad={"cmd": "seq 40; exit 3", "outs": ["bad"]},
    after={"cmd": "date > after", "deps": ["bad"], "outs": ["after"]},
    beside=timed("beside"),
    later=timed("later", "beside"),
    apart=timed("apart"),
)


def test_after_a_failure_nothing_begins_and_what_runs_may_end(project, reproduce):
    root = project({"dvc.yaml": BROKEN})
    Workplace(root).journal.mkdir(parents=True)
    Workplace(root).remember({"apart": 0})
    outcomes = reproduce(jobs=2)
    assert statuses(outcomes) == {
        "bad": "failed",
        "after": "blocked",
        "beside": "ran",
        "later": "stopped",
        "apart": "stopped",
    }
    assert (outcomes["bad"]["reason"], outcomes["bad"]["code"]) == ("exit code 3", 3)
    assert outcomes["bad"]["tail"] == [str(number) for number in range(21, 41)]
    assert len(lines(outcomes["bad"]["log"])) == 40
    assert outcomes["after"]["reason"] == "reads from bad"
    assert list(recorded()) == ["beside"]


def test_keep_going_runs_all_that_does_not_need_what_failed(project, reproduce):
    project({"dvc.yaml": BROKEN})
    outcomes = statuses(reproduce(keep_going=True))
    assert outcomes == {"bad": "failed", "after": "blocked", "beside": "ran", "later": "ran", "apart": "ran"}
    assert list(recorded()) == ["beside", "later", "apart"]


def test_a_signal_that_kills_a_stage_is_named(project, reproduce):
    project({"dvc.yaml": pipeline(a={"cmd": "kill -9 $$", "outs": ["a"]})})
    outcome = reproduce()["a"]
    assert (outcome["reason"], outcome["code"]) == ("killed by signal 9", -9)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ({"cmd": "true", "outs": ["a"]}, "output 'a' does not exist"),
        ({"cmd": "date > a", "deps": ["lost"], "outs": ["a"]}, "No such file or directory: '"),
        ({"cmd": "mkfifo a", "outs": ["a"]}, "output 'a' is not a file or directory"),
        ({"cmd": "printf '\\000' > a", "metrics": ["a"]}, "cannot be used as metrics"),
    ],
)
def test_what_dvc_cannot_record_fails_with_its_reason(project, reproduce, stage, reason):
    project({"dvc.yaml": pipeline(a=stage)})
    outcome = reproduce()["a"]
    assert outcome["status"] == "failed"
    assert reason in outcome["reason"]
    assert recorded() == {}


CHANGES = {
    "its command": ("sed -i 's/date > a/date >> a/' dvc.yaml", "dvc.yaml defines it otherwise"),
    "its outputs": ('sed -i \'s/"a"/"other"/\' dvc.yaml', "dvc.yaml defines it otherwise"),
    "a variable": ("echo 'name: two' > names.yaml", "dvc.yaml defines it otherwise"),
    "all stages": ("rm dvc.yaml", "dvc.yaml defines it otherwise"),
    "no yaml": ("echo 'stages: [' > dvc.yaml", "unable to read: 'dvc.yaml'"),
    "a parameter": ("echo 'rate: 2' > params.yaml", "changed while it ran: params.yaml: rate"),
    "no parameter": ("echo 'other: 1' > params.yaml", "rate"),
    "a file": ("echo two > input", "changed while it ran: input"),
    "no file": ("rm input", "dependency 'input' does not exist"),
    "a file in a folder": ("echo two > folder/x", "changed while it ran: folder"),
    "two things": ("echo 'rate: 2' > params.yaml; echo two > input", "params.yaml: rate"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_whose_inputs_change_while_it_runs_is_not_recorded(project, reproduce, change):
    command, reason = CHANGES[change]
    stage = {
        "cmd": "sh change ${name}; date > a",
        "deps": ["input", "folder"],
        "params": ["rate"],
        "outs": ["a"],
    }
    files = {
        "dvc.yaml": json.dumps({"vars": ["names.yaml"], "stages": {"a": stage, "b": {"cmd": "date", "deps": ["a"]}}})
    }
    files |= {"names.yaml": "name: one", "params.yaml": "rate: 1", "input": "one", "folder/x": "one"}
    project(files | {"change": command})
    outcomes = reproduce()
    assert statuses(outcomes) == {"a": "failed", "b": "blocked"}
    assert reason in outcomes["a"]["reason"]
    assert recorded() == {}
    for name, text in files.items():
        Path(name).write_text(text)
    Path("change").write_text("")
    assert statuses(reproduce()) == {"a": "ran", "b": "ran"}


def test_a_stage_that_dvc_yaml_defines_otherwise_since_the_plan_was_read_does_not_begin(project, reproduce):
    stages = {
        "first": {"cmd": "sh change; date > a", "outs": ["a"]},
        "same": {"cmd": "echo same > b", "deps": ["a"], "outs": ["b"]},
        "other": {"cmd": "echo before > c", "deps": ["a"], "outs": ["c"]},
    }
    project({"dvc.yaml": pipeline(**stages), "change": "sed -i 's/echo before/echo after/' dvc.yaml"})
    outcomes = reproduce(keep_going=True)
    assert statuses(outcomes) == {"first": "ran", "same": "ran", "other": "failed"}
    assert outcomes["other"]["reason"].startswith("dvc.yaml defines it otherwise since this run began")
    assert not Path("c").exists()
    assert statuses(reproduce()) == {"first": "skipped", "same": "skipped", "other": "ran"}
    assert Path("c").read_text() == "after\n"


def test_inputs_that_change_before_a_stage_begins_are_simply_used(project, reproduce):
    stages = {
        "first": {"cmd": "echo 'rate: 2' > params.yaml; echo two > input; date > a", "outs": ["a"]},
        "next": {"cmd": "cat params.yaml input > b", "deps": ["a", "input"], "params": ["rate"], "outs": ["b"]},
    }
    project({"dvc.yaml": pipeline(**stages), "params.yaml": "rate: 1", "input": "one"})
    assert statuses(reproduce()) == {"first": "ran", "next": "ran"}
    assert Path("b").read_text() == "rate: 2\ntwo\n"
    assert recorded()["next"]["params"] == {"params.yaml": {"rate": 2}}
    assert statuses(reproduce()) == {"first": "skipped", "next": "skipped"}


# Beside other DVC processes


def test_the_lock_of_another_dvc_process_is_waited_for(chain, capsys):
    begun, release = threading.Event(), threading.Timer(3.5, lambda: None)  # DVC's own patience is 3 s

    def hold():
        with Repo() as repo, repo.lock:
            begun.set()
            release.run()

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(10)
    assert execution.run(session.Request(["first"]), dry_run=False, prefect=False, as_json=True) == 0
    holder.join()
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["status"] == "ran"
    assert said.err == "waiting for another DVC process that holds the repository's lock\n"


def test_a_stage_whose_files_another_dvc_process_works_on_waits_and_others_do_not(project, capsys):
    root = project({"dvc.yaml": pipeline(a=timed("a"), b=timed("b"))})
    with subprocess.Popen(["sleep", "1.5"]) as other:
        held = {str(root / "a"): {"pid": other.pid, "cmd": "dvc repro"}}
        (root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": held}))
        threading.Thread(target=other.wait).start()
        assert execution.run(session.Request(jobs=1), dry_run=False, prefect=False, as_json=True) == 0
    assert begun() == ["b", "a"]
    assert "a: waiting for another DVC process that works on its files\n" in capsys.readouterr().err
