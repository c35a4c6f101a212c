"""What the engine does when something goes wrong."""

import json
import subprocess
import threading
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipelines import execution, session
from pipelines.workplace import Workplace
from tests.pipelines.toy_stages import begun, lines, pipeline, recorded, statuses, timed

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
