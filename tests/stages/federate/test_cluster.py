import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from federated_cases import Broken, Deadly, start, tasks, workload

from stages.common.errors import InputError, SettingError
from stages.federate import cluster
from stages.federate.cluster import RayEngine
from stages.federate.engine import Engine
from stages.federate.population import Participant
from stages.federate.secure_sum import SecureSum

SIZES = [23, 17, 1, 9, 4, 11, 2, 7, 3, 8, 5, 20]


@pytest.fixture(scope="module")
def _local_ray():
    import ray

    # Actors import the code, and the networks of tests.
    here = Path(__file__).resolve().parent
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(map(str, (here.parents[2], here))))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def test_without_ray_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match="ray is not installed"):
        RayEngine(workload(), 5)


def test_an_address_without_a_cluster_is_named(monkeypatch):
    import ray

    def refuse(**_):
        raise ConnectionError("timed out")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(InputError, match=r"RAY_ADDRESS: no cluster at `10.0.0.1:6379` \(timed out\)"):
        RayEngine(workload(), 5)


def test_a_model_that_actors_have_no_device_for_is_refused():
    work = workload()
    with pytest.raises(SettingError, match="ray trains clients on cores, and the model is on `meta`"):
        RayEngine(replace(work, model=work.model.to("meta")), 5)


def result(engine, work):
    """Return a round's sum, what is said of the clients, and their control variates."""
    cohort = tasks(work, SIZES)
    if work.settings.secure_aggregation is not None:
        clients = [Participant(task.slot, task.rows, task.steps) for task in cohort]
        cohort = SecureSum(work.settings, clients, 0, 1).masked(cohort)
    with engine:
        for slot, correction in enumerate(engine.shared.corrections):
            correction.fill_(0.01 * slot)
        found = engine.run(start(work), cohort)
        return found.total, found.outcomes, engine.shared.controls.clone()


@pytest.mark.usefixtures("_local_ray")
@pytest.mark.parametrize("changes", [{}, {"mechanism": "scaffold"}, {"secure_aggregation": {}}], ids=str)
def test_a_cluster_gives_what_one_process_does_to_the_last_bit(changes):
    work = workload(**changes)
    found, expected = (result(engine(work, len(SIZES)), work) for engine in (RayEngine, Engine))
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
    assert torch.equal(found[2], expected[2])


@pytest.mark.usefixtures("_local_ray")
def test_an_actor_that_dies_is_started_again_and_nothing_changes(tmp_path):
    (tmp_path / "once").touch()
    deadly, work = workload(partial(Deadly, folder=str(tmp_path)), vectorised=False), workload(vectorised=False)
    found, expected = result(RayEngine(deadly, len(SIZES)), deadly), result(Engine(work, len(SIZES)), work)
    assert not list(tmp_path.iterdir())
    assert torch.equal(found[0], expected[0])


@pytest.mark.usefixtures("_local_ray")
def test_a_round_in_which_an_actor_dies_too_often_is_given_up(tmp_path, monkeypatch):
    # Once is too often: to start an actor again takes seconds.
    monkeypatch.setattr(cluster, "DEATHS", 0)
    (tmp_path / "once").touch()
    deadly = workload(partial(Deadly, folder=str(tmp_path)), vectorised=False)
    with pytest.raises(InputError, match="Ray: an actor that trained clients died more than 0 times"):
        result(RayEngine(deadly, len(SIZES)), deadly)


@pytest.mark.usefixtures("_local_ray")
def test_a_defect_in_a_client_is_raised():
    work = workload(Broken)
    with pytest.raises(ZeroDivisionError):
        result(RayEngine(work, len(SIZES)), work)
