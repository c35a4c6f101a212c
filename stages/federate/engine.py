"""Runs the clients of a round, in this process or spread over several, with the same result to the last bit.

A cohort is dealt to lanes, longest clients first, by the clients alone. A lane is trained in its order by whichever
process is free, which sums its clients' weights in place; the sums of the lanes are added in the order of the lanes.
So the processes decide when a number is computed, never how.
"""

import tempfile
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ctypes import c_byte
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor

from stages.common.errors import InputError
from stages.common.pool import CONTEXT, PROCESSES, end_with_parent
from stages.federate.client import Outcome, Task, Updates, Workload, summed, update
from stages.federate.quantisation import quantise
from stages.federate.secure_aggregation import mask
from stages.federate.weights import Layout
from stages.models.process import set_up_process

# At most so many processes have something to do in a round, and so many sums are added at its end.
LANES = 8
# Trained values of the clients that are vectorised together, and the most of them: more buy nothing, and lanes with
# fewer clients than that leave processes idle. Clients without weights of their own need no room in the cache.
VALUES, TOGETHER = 2**21, 8
VALUES_SUMMED, TOGETHER_SUMMED = 2**22, 16
BLOCK = 2**15
# Processes that may die in a round before it is given up.
DEATHS = 3


class Shared(NamedTuple):
    """What the processes of a federation read and write; each tensor is in memory that they share.

    Attributes:
        weights: (P,) the server's, read by all.
        sums: (LANES, P) float64, of a lane's clients' weights; with secure aggregation int64, of their words.
        corrections: (cohort, P) of SCAFFOLD, read by all; otherwise (0, P).
        controls: (cohort, P) of SCAFFOLD, the clients' new control variates.
    """

    weights: Tensor
    sums: Tensor
    corrections: Tensor
    controls: Tensor


class Reported(NamedTuple):
    """A round: the cohort's (P,) sum, as in `Shared`, and what is said of each client in the order of tasks."""

    total: Tensor
    outcomes: list[Outcome]


class Engine:
    """The processes that train clients; use it in a `with` statement.

    Args:
        workload: What they train.
        cohort: The most clients of a round.
        processes: How many may work at once; with one it is this process, on the model's device.
    """

    def __init__(self, workload: Workload, cohort: int, processes: int = 1) -> None:
        size = Layout(workload.model).size
        controlled = cohort if workload.settings.mechanism == "scaffold" else 0
        self._at_once = _at_once(workload, size, cohort)
        # A power of two, so that two or four processes have as much to do.
        self._lanes = min(LANES, 1 << (-(-cohort // self._at_once) - 1).bit_length())
        sums = "float64" if workload.settings.secure_aggregation is None else "int64"
        shapes = {"float32": [(1, size), (controlled, size), (controlled, size)], sums: [(self._lanes, size)]}
        buffers = [_Buffer(shape, kind, processes > 1) for kind, kinds in shapes.items() for shape in kinds]
        self.shared = _shared(buffers)
        self._here = _Worker(workload, self.shared, self._at_once)
        self._processes: list[_Process] = []
        self._stack = ExitStack()
        if processes > 1:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-")))
            # Mapped into memory by each process, so that there is one copy of the data, and no limit of /dev/shm.
            torch.save(workload, folder / "workload.pt")
            start = (folder / "workload.pt", buffers, self._at_once)
            self._processes = [_Process(start) for _ in range(min(processes, self._lanes))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.end()
        self._stack.close()

    def run(self, weights: Tensor, tasks: Sequence[Task]) -> Reported:
        """Train a cohort from (P,) weights; with SCAFFOLD `shared.corrections` are those of its slots.

        Raises:
            InputError: Processes died again and again.
        """
        self.shared.weights.copy_(weights)
        lanes = deal(tasks, self._lanes)
        found = self._train(lanes)
        slots = [task.slot for lane in lanes for task in lane]
        outcomes = dict(zip(slots, chain.from_iterable(found), strict=True))
        total = self.shared.sums[0].clone()
        for sums in self.shared.sums[1 : len(lanes)]:
            total += sums
        return Reported(total, [outcomes[task.slot] for task in tasks])

    def train_lane(self, number: int, tasks: Sequence[Task]) -> list[Outcome]:
        """Train clients in this process, into `shared`; return what is said of each."""
        return self._here.train(number, tasks)

    def _train(self, lanes: list[list[Task]]) -> list[list[Outcome]]:
        """Train the clients of all lanes, into `shared`; return what is said of each."""
        if not self._processes:
            return [self.train_lane(*lane) for lane in enumerate(lanes)]
        waiting, found = deque(range(len(lanes))), dict[int, list[Outcome]]()
        deaths = 0
        while len(found) < len(lanes):
            for process in self._processes:
                if process.lane is None and waiting:
                    process.give(waiting.popleft(), lanes)
            busy = {process.connection: process for process in self._processes if process.lane is not None}
            for connection in wait(busy):
                process = busy[cast("Connection", connection)]
                lane = process.lane
                assert lane is not None
                answer = process.take()
                if answer is not None:
                    found[lane] = answer
                    continue
                # Whatever a process left half done, another does from the start: training is a pure function.
                deaths += 1
                if deaths > DEATHS:
                    problem = f"{deaths} processes that trained clients died in one round, as for want of memory"
                    raise InputError(PROCESSES, problem, "give a smaller number, or a smaller batch")
                waiting.appendleft(lane)
                process.start_again()
        return [found[lane] for lane in range(len(lanes))]


def deal(tasks: Iterable[Task], lanes: int) -> list[list[Task]]:
    """Deal a cohort to at most so many lanes, longest clients first, each to the lane with the least to do."""
    dealt: list[list[Task]] = [[] for _ in range(lanes)]
    loads = [0] * lanes
    for task in sorted(tasks, key=lambda task: (-task.steps, task.slot)):
        lane = loads.index(min(loads))
        dealt[lane].append(task)
        loads[lane] += task.steps
    return [lane for lane in dealt if lane]


def _at_once(workload: Workload, size: int, cohort: int) -> int:
    """Return how many clients of a cohort are trained together, of so many values each."""
    if not workload.vectorised:
        return 1
    values, most = (VALUES_SUMMED, TOGETHER_SUMMED) if workload.only_summed else (VALUES, TOGETHER)
    # Of a small cohort at most half, or a second process would have nothing to do.
    return max(1, min(most, values // size, -(-cohort // 2)))


def prepare_torch() -> None:
    """Set up a process that trains clients as the command's own is, with one thread."""
    torch.set_num_threads(1)
    set_up_process()


class _Buffer:
    """A tensor's memory, which a process that it is sent to shares."""

    def __init__(self, shape: tuple[int, int], kind: str, shared: bool) -> None:
        self._shape, self._kind = shape, getattr(torch, kind)
        size = shape[0] * shape[1] * self._kind.itemsize
        self._memory = CONTEXT.RawArray(c_byte, size) if shared else bytearray(size)

    def tensor(self) -> Tensor:
        if not self._memory:
            return torch.empty(self._shape, dtype=self._kind)
        return torch.frombuffer(self._memory, dtype=self._kind).view(self._shape)


def _shared(buffers: Sequence[_Buffer]) -> Shared:
    weights, corrections, controls, sums = (buffer.tensor() for buffer in buffers)
    return Shared(weights[0], sums, corrections, controls)


class _Worker:
    """Trains lanes of clients."""

    def __init__(self, workload: Workload, shared: Shared, at_once: int) -> None:
        self._workload, self._shared, self._at_once = workload, shared, at_once
        self._device = next(workload.model.parameters()).device
        kept = 0 if workload.only_summed else at_once
        self._memory = torch.empty(kept, len(shared.weights), device=self._device)

    def train(self, number: int, tasks: Sequence[Task]) -> list[Outcome]:
        """Leave the sum of a lane in `shared`, and of each client its control variate; return what is said of each."""
        total = self._shared.sums[number].zero_()
        start = self._shared.weights.to(self._device)
        outcomes = []
        for first in range(0, len(tasks), self._at_once):
            chunk = tasks[first : first + self._at_once]
            if self._workload.only_summed:
                added, found = summed(self._workload, start, chunk)
                total.add_(self._shared.weights, alpha=sum(task.weight for task in chunk)).add_(added.cpu())
                outcomes += found
                continue
            weights, found = self._update(start, chunk)
            for task, own, outcome in zip(chunk, weights, found, strict=True):
                if task.masks is not None:
                    outcomes.append(self._add_masked(total, task, own, outcome))
                    continue
                # In blocks that stay in the cache: what is added is a copy in float64.
                for part, of_own in zip(total.split(BLOCK), own.split(BLOCK), strict=True):
                    part.add_(of_own, alpha=task.weight)
                outcomes.append(outcome)
        return outcomes

    def _add_masked(self, total: Tensor, task: Task, own: Tensor, outcome: Outcome) -> Outcome:
        """Add a client's masked update to its lane's sum: words of 32 bits, whose sum over any cohort 64 hold."""
        secure = self._workload.settings.secure_aggregation
        assert secure is not None
        assert task.masks is not None
        update = own.double() if task.clipping_norm is not None else own.double() - self._shared.weights
        words, clipped = quantise((task.weight * update).numpy(), secure)
        mask(words, task.masks)
        numbers = total.numpy()
        numbers += words
        return outcome._replace(clipped=clipped)

    def _update(self, start: Tensor, tasks: Sequence[Task]) -> Updates:
        if not len(self._shared.corrections):
            weights, outcomes = update(self._workload, start, tasks, into=self._memory)
            return Updates(weights.cpu(), outcomes)
        slots = torch.tensor([task.slot for task in tasks])
        corrections = self._shared.corrections[slots].to(self._device)
        weights, outcomes = update(self._workload, start, tasks, corrections, self._memory)
        made = torch.tensor([[self._workload.settings.learning_rate * task.steps] for task in tasks])
        # Option II: c_i - c + (x - y_i) / (K eta).
        self._shared.controls[slots] = ((start - weights) / made.to(self._device) - corrections).cpu()
        return Updates(weights.cpu(), outcomes)


class _Process:
    """A process with a worker; `lane` is what it trains, None if it waits."""

    def __init__(self, start: tuple[Path, list[_Buffer], int]) -> None:
        self._start = start
        self._run()

    def _run(self) -> None:
        self.lane: int | None = None
        self.connection, other = CONTEXT.Pipe()
        self._process: ForkServerProcess = CONTEXT.Process(target=_serve, args=(other, *self._start), daemon=True)
        self._process.start()
        # Its own end alone stays open, so that its death is the end of what can be read.
        other.close()

    def give(self, lane: int, lanes: list[list[Task]]) -> None:
        """Have it train a lane."""
        self.lane = lane
        try:
            self.connection.send((lane, lanes[lane]))
        except OSError:
            # It died while it waited, which `take` finds.
            return

    def take(self) -> list[Outcome] | None:
        """Return what is said of the clients it has trained, or None if it is dead; raise what it raised."""
        self.lane = None
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, Exception):
            raise answer
        return cast("list[Outcome]", answer)

    def start_again(self) -> None:
        """Replace a dead process."""
        self.end()
        self._run()

    def end(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, path: Path, buffers: list[_Buffer], at_once: int) -> None:
    end_with_parent()
    prepare_torch()
    # A model and its objective are more than tensors, so this is a pickle, as is all that multiprocessing sends. The
    # run that wrote it started this process, and the folder admits nobody but its user.
    workload = torch.load(path, mmap=True, weights_only=False)
    worker = _Worker(workload, _shared(buffers), at_once)
    while True:
        try:
            lane, tasks = connection.recv()
        except EOFError:
            return
        try:
            answer: list[Outcome] | Exception = worker.train(lane, tasks)
        except Exception as error:
            # Raised where the round was asked for, which is not where it happened.
            error.add_note(traceback.format_exc())
            answer = error
        connection.send(answer)
