"""The engine on a Ray cluster: actors, one a core, in the place of processes."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stages.common.errors import InputError, SettingError
from stages.federate.client import Outcome, Task, Workload
from stages.federate.engine import DEATHS, Engine, Shared, prepare_torch


class RayEngine(Engine):
    """Trains clients on the cluster at RAY_ADDRESS, whose nodes have this code, or on one of this machine.

    A round is dealt, summed and added as by `Engine`, so its result is the same on machines alike.

    Raises:
        SettingError: Ray is not installed, or the model is on a GPU, which actors have none of.
        InputError: There is no cluster at that address.
    """

    def __init__(self, workload: Workload, cohort: int) -> None:
        device = next(workload.model.parameters()).device
        if device.type != "cpu":
            hide = "hide it by CUDA_VISIBLE_DEVICES='', or give backend: processes"
            raise SettingError("backend", f"ray trains clients on cores, and the model is on `{device}`", hide)
        super().__init__(workload, cohort)
        try:
            import ray as imported
        except ImportError:
            install = "`pip install 'assay[ray]'`, or give backend: processes"
            raise SettingError("backend", "ray is not installed", install) from None
        ray: Any = imported
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                address = os.environ.get("RAY_ADDRESS")
                raise InputError("RAY_ADDRESS", f"no cluster at `{address}` ({error})", "`ray start --head`") from error
            self._stack.callback(ray.shutdown)
        cores = int(ray.cluster_resources().get("CPU", 1))
        # No core is reserved: a stage that runs on the cluster holds one already, and would wait for itself. An actor
        # that dies is started again, and so is what it had in hand.
        make = ray.remote(_Actor).options(
            num_cpus=0, scheduling_strategy="SPREAD", max_restarts=DEATHS, max_task_retries=DEATHS
        )
        # Held as long as the actors: one that starts again asks for it again.
        self._workload = ray.put(workload)
        self._actors = [make.remote(self._workload, cohort) for _ in range(min(cores, self._lanes))]
        for actor in self._actors:
            self._stack.callback(ray.kill, actor)

    def _train(self, lanes: list[list[Task]]) -> list[list[Outcome]]:
        from ray.util import ActorPool

        weights = self._ray.put(self.shared.weights)

        def send(actor: Any, lane: tuple[int, list[Task]]) -> Any:
            return actor.train.remote(*lane, weights, self.shared.corrections[_slots(lane[1], self.shared)])

        try:
            found = list(ActorPool(self._actors).map(send, list(enumerate(lanes))))
        except self._ray.exceptions.RayActorError as error:
            problem = f"an actor that trained clients died more than {DEATHS} times"
            raise InputError("Ray", f"{problem} ({error})", "look for want of memory in Ray's logs") from None
        for number, (tasks, (sums, _, controls)) in enumerate(zip(lanes, found, strict=True)):
            self.shared.sums[number].copy_(sums)
            self.shared.controls[_slots(tasks, self.shared)] = controls
        return [outcomes for _, outcomes, _ in found]


class _Actor:
    """An engine of its own, which trains a lane at a time."""

    def __init__(self, workload: Workload, cohort: int) -> None:
        prepare_torch()
        self._engine = Engine(workload, cohort)

    def train(
        self, number: int, tasks: list[Task], weights: Tensor, corrections: Tensor
    ) -> tuple[Tensor, list[Outcome], Tensor]:
        """Return a lane's sum, what is said of its clients, and their control variates."""
        shared, slots = self._engine.shared, _slots(tasks, self._engine.shared)
        shared.weights.copy_(weights)
        shared.corrections[slots] = corrections
        outcomes = self._engine.train_lane(number, tasks)
        return shared.sums[number], outcomes, shared.controls[slots]


def _slots(tasks: Sequence[Task], shared: Shared) -> Tensor:
    """Return where the control variates of clients are: nowhere without SCAFFOLD."""
    return torch.tensor([task.slot for task in tasks] if len(shared.controls) else [], dtype=torch.int64)
