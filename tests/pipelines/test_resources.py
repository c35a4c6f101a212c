import os

import pytest

from pipelines.resources import Budget, Needs, Use, cores, needs
from stages.common.errors import InputError

GIB = 2**30


def declare(**values):
    return needs({"assay": values}, "train")


@pytest.mark.parametrize("meta", [None, {}, {"owner": "me"}, {"assay": None}, {"assay": {}}, "any text", [1]])
def test_undeclared_is_nothing(meta):
    assert needs(meta, "train") == Needs(cpus=0, memory=0, gpus=0, retries=0)


def test_all_that_may_be_declared():
    found = declare(cpus=1.5, memory="8 GiB", gpus=2, retries=3)
    assert found == Needs(cpus=1.5, memory=8 * GIB, gpus=2, retries=3)


@pytest.mark.parametrize(
    ("text", "value"),
    [("8 GiB", 8 * GIB), ("1.5GiB", 3 * GIB // 2), ("512 MiB", 2**29), ("2 GB", 2 * 10**9), ("0 MB", 0)],
)
def test_units_of_memory(text, value):
    assert declare(memory=text).memory == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("memory", value) for value in (8, "8", "8 gib", "-1 GiB", "1..2 GiB", ". GiB", "GiB", "8 TiB", None, True)],
        *[("cpus", value) for value in (-1, "2", True, None, [1], float("nan"), float("inf"))],
        *[("gpus", value) for value in (-1, 1.5, 1.0, "1", True, None, float("nan"))],
        *[("retries", value) for value in (-1, 0.5, 2.0, "2", False, None, float("inf"))],
    ],
)
def test_a_wrong_value_is_named(key, value):
    with pytest.raises(InputError) as caught:
        declare(**{key: value})
    assert str(caught.value).startswith(f"train: meta.assay.{key}: {value!r} is not allowed; give a")


def test_an_unknown_key_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"train: meta\.assay: has no `cpu`; allowed: cpus, memory, gpus, retries"):
        declare(cpu=2)


@pytest.mark.parametrize("value", [3, "cpus: 2", ["cpus"]])
def test_what_is_no_mapping_is_named(value):
    with pytest.raises(InputError, match=r"train: meta\.assay: .* is not allowed; give a mapping"):
        needs({"assay": value}, "train")


def test_what_a_machine_can_never_give_is_refused():
    budget = Budget(jobs=1, cpus=2, memory=4 * GIB, gpus=("0",))
    budget.check("train", Needs(cpus=100, memory=4 * GIB, gpus=1))
    with pytest.raises(InputError, match=r"train: meta\.assay\.gpus: 2 asked for, 1 here"):
        budget.check("train", Needs(gpus=2))
    with pytest.raises(InputError, match=r"train: meta\.assay\.memory: 4\.5 GiB asked for, 4\.0 here"):
        budget.check("train", Needs(memory=9 * GIB // 2))


def test_no_more_jobs_than_allowed():
    use = Use(Budget(jobs=2, cpus=8, memory=GIB))
    assert use.take("a", Needs()) == ()
    assert use.take("b", Needs()) == ()
    assert use.lacks(Needs()) == {"jobs"}
    use.give_back("a")
    assert use.take("c", Needs()) == ()


def test_cores_are_shared():
    use = Use(Budget(jobs=9, cpus=4, memory=GIB))
    assert use.take("a", Needs(cpus=2.5)) == ()
    assert use.lacks(Needs(cpus=2)) == {"cpus"}
    assert use.take("c", Needs(cpus=1.5)) == ()
    assert use.take("undeclared", Needs()) == ()
    use.give_back("a")
    assert use.take("b", Needs(cpus=2.5)) == ()


def test_a_stage_may_start_as_many_processes_as_its_part_of_the_cores():
    use = Use(Budget(jobs=3, cpus=8, memory=GIB))
    use.take("alone", Needs())
    assert [use.share(Needs(), ready) for ready in (0, 1, 2, 9)] == [8, 4, 2, 2]
    assert use.share(Needs(cpus=5.5), 9) == 5
    assert use.share(Needs(cpus=0.1), 0) == 1
    use.take("another", Needs())
    assert use.share(Needs(), 0) == 4


def test_one_that_asks_for_more_cores_than_there_are_runs_without_others_that_ask():
    use = Use(Budget(jobs=9, cpus=4, memory=GIB))
    assert use.take("small", Needs(cpus=1)) == ()
    assert use.lacks(Needs(cpus=64)) == {"cpus"}
    use.give_back("small")
    assert use.take("large", Needs(cpus=64)) == ()
    assert use.lacks(Needs(cpus=0.1)) == {"cpus"}
    assert use.take("undeclared", Needs()) == ()


def test_memory_is_shared():
    use = Use(Budget(jobs=9, cpus=1, memory=4 * GIB))
    assert use.take("a", Needs(memory=3 * GIB)) == ()
    assert use.lacks(Needs(memory=GIB + 1)) == {"memory"}
    assert use.take("c", Needs(memory=GIB)) == ()
    use.give_back("a")
    assert use.take("b", Needs(memory=GIB + 1)) == ()


def test_a_gpu_belongs_to_one_at_a_time():
    use = Use(Budget(jobs=9, cpus=1, memory=GIB, gpus=("0", "GPU-7", "2")))
    assert use.take("a", Needs(gpus=2)) == ("0", "GPU-7")
    assert use.lacks(Needs(gpus=2)) == {"gpus"}
    assert use.take("c", Needs(gpus=1)) == ("2",)
    assert use.take("without", Needs()) == ()
    use.give_back("a")
    assert use.take("b", Needs(gpus=1)) == ("0",)


@pytest.mark.parametrize(
    ("visible", "found"),
    [("0,3", ("0", "3")), ("GPU-a", ("GPU-a",)), ("", ()), ("-1", ()), ("2,-1,0", ("2",)), (" 1, 2 ", ("1", "2"))],
)
def test_gpus_are_those_this_process_may_see(monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Budget.of_machine(1).gpus == found


@pytest.mark.parametrize(("script", "found"), [("echo 'GPU 0: H100'; echo 'GPU 1: H100'", ("0", "1")), ("exit 9", ())])
def test_gpus_are_those_the_driver_lists(monkeypatch, tmp_path, script, found):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$1" = -L ] && {script}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert Budget.of_machine(1).gpus == found


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    budget = Budget.of_machine(3)
    assert (budget.jobs, budget.cpus, budget.gpus) == (3, cores(), ())
    assert budget.memory > GIB // 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no processes")
def test_cores_are_those_this_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
