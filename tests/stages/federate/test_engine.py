import os
import traceback
from functools import partial

import pytest
import torch
from federated_cases import Broken, Deadly, start, tasks, workload

from stages.common import pool
from stages.common.errors import InputError
from stages.federate.engine import Engine, deal

SIZES = [23, 17, 1, 9, 4, 11, 2, 7, 3, 8, 5, 20]


@pytest.fixture(autouse=True)
def _torch_is_imported_once():
    pool.start(2, "stages.federate.engine")


def rounds(work, processes, number=2):
    """Return what some rounds from the same weights gave: sums and what is said of the clients."""
    with Engine(work, len(SIZES), processes) as engine:
        # Of one lane alone nothing could depend on the processes.
        assert engine._lanes > 1
        return [engine.run(start(work), tasks(work, SIZES)) for _ in range(number)]


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_round_is_the_same_to_the_last_bit_in_any_number_of_processes(vectorised):
    # Dropout where clients are trained one by one.
    work = workload(vectorised=vectorised, dropout=0.0 if vectorised else 0.5)
    found = [one for processes in (1, 2, 3) for one in rounds(work, processes)]
    assert all(torch.equal(one.total, found[0].total) for one in found)
    assert all(one.outcomes == found[0].outcomes for one in found)


def test_control_variates_are_too():
    work = workload(mechanism="scaffold")
    found = []
    for processes in (1, 3):
        with Engine(work, len(SIZES), processes) as engine:
            for slot, correction in enumerate(engine.shared.corrections):
                correction.fill_(0.01 * slot)
            total = engine.run(start(work), tasks(work, SIZES)).total
            found.append((total, engine.shared.controls.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_sum_is_that_of_the_clients_weights():
    work = workload(learning_rate=1e-30)
    [found] = rounds(work, 1, number=1)
    torch.testing.assert_close(found.total, sum(SIZES) * start(work).double())


def test_losses_stand_in_the_order_of_the_tasks():
    work = workload(learning_rate=1e-30)
    [found] = rounds(work, 1, number=1)
    for task, outcome in zip(tasks(work, SIZES), found.outcomes, strict=True):
        rows = torch.from_numpy(task.rows)
        assert outcome.loss == pytest.approx(work.objective(work.model(work.inputs[0][rows]), rows).mean().item())


@pytest.mark.parametrize("killed", [1, 2])
def test_processes_that_die_in_a_round_are_replaced_and_nothing_changes(tmp_path, killed):
    expected = rounds(workload(vectorised=False), 1)
    for number in range(killed):
        (tmp_path / str(number)).touch()
    deadly = workload(partial(Deadly, folder=str(tmp_path)), vectorised=False)
    found = rounds(deadly, 2)
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(one.total, other.total) for one, other in zip(found, expected, strict=True))
    assert [one.outcomes for one in found] == [one.outcomes for one in expected]


def test_a_process_that_dies_between_rounds_is_replaced():
    work = workload()
    with Engine(work, len(SIZES), 2) as engine:
        first = engine.run(start(work), tasks(work, SIZES))
        for process in engine._processes:
            os.kill(process._process.pid, 9)
        again = engine.run(start(work), tasks(work, SIZES))
    assert torch.equal(first.total, again.total)


def test_a_round_in_which_processes_die_again_and_again_is_given_up(tmp_path):
    for number in range(20):
        (tmp_path / str(number)).touch()
    with pytest.raises(InputError, match="ASSAY_PROCESSES: 4 processes that trained clients died in one round"):
        rounds(workload(partial(Deadly, folder=str(tmp_path)), vectorised=False), 2)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_defect_in_a_client_is_raised_where_the_round_was_asked_for(processes):
    with pytest.raises(ZeroDivisionError) as error:
        rounds(workload(Broken), processes)
    said = "".join(traceback.format_exception(error.value))
    assert "in __call__" in said


def test_a_cohort_is_dealt_longest_first_and_evenly():
    work = workload()
    cohort = tasks(work, SIZES)
    lanes = deal(reversed(cohort), 4)
    assert sorted(task.slot for lane in lanes for task in lane) == list(range(len(SIZES)))
    assert all(lane == sorted(lane, key=lambda task: -task.steps) for lane in lanes)
    loads = [sum(task.steps for task in lane) for lane in lanes]
    assert max(loads) - min(loads) <= 2
    assert lanes == deal(cohort, 4)
    assert len(deal(cohort[:2], 4)) == 2
