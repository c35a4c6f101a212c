"""In which order the engine runs stages, and how many at once."""

from pathlib import Path

import psutil
import pytest

from pipelines.resources import cores
from pipelines.workplace import Workplace
from stages.common.errors import InputError
from tests.pipelines.toy_stages import at_once, begun, lines, most_at_once, pipeline, recorded, statuses, timed


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


def test_stages_that_run_at_once_share_the_cores_among_their_processes(project, reproduce, monkeypatch):
    monkeypatch.setattr("pipelines.resources.cores", lambda: 8)

    def stage(name, *deps, **meta):
        cmd = f"sleep 0.2; echo $ASSAY_PROCESSES > {name}"
        return {"cmd": cmd, "deps": list(deps), "outs": [name], "meta": {"assay": meta}}

    stages = {name: stage(name) for name in "abc"} | {"last": stage("last", "a", "b", "c", "asks")}
    project({"dvc.yaml": pipeline(**stages, asks=stage("asks", cpus=3))})
    monkeypatch.delenv("ASSAY_PROCESSES", raising=False)
    assert set(statuses(reproduce(jobs=8)).values()) == {"ran"}
    assert [lines(name) for name in ("a", "b", "c", "last", "asks")] == [["2"], ["2"], ["2"], ["8"], ["3"]]
    monkeypatch.setenv("ASSAY_PROCESSES", "5")
    reproduce(jobs=8, force=True)
    assert {*lines("a"), *lines("last"), *lines("asks")} == {"5"}


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
