"""Run a plan in parallel and leave exactly what `dvc repro` would have left; knows nothing of Prefect.

One thread, the caller's, decides and writes to DVC. Commands run in other threads (or wherever
`submit` takes them), and tell when they end.
"""

import heapq
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

from pipelines.cluster import Cluster, offered
from pipelines.cluster import order as cluster_order
from pipelines.committer import Committer
from pipelines.graph import Stage, affected
from pipelines.records import StageError
from pipelines.repository import Repository
from pipelines.resources import Budget, Use
from pipelines.runner import GRACE, Job, Result, Runner, environment
from pipelines.watchdog import Watchdog
from pipelines.workplace import Workplace

Status = Literal["ran", "restored", "skipped", "failed", "blocked", "stopped"]
# How long to wait before a stage is tried again whose files another DVC process holds.
BUSY = 1.0
# So many may take what a stage that comes before them lacks; then nothing else gets that until it runs.
OVERTAKEN = 10


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    `restored`: DVC took the results of an earlier run with the same inputs. `skipped`: up to date.
    `blocked`: not tried, since a stage it reads from failed. `stopped`: not tried or not finished, since
    the run was stopped. `reason` says why it failed; `tail` holds the last lines of its output, `log` all.
    """

    stage: str
    status: Status
    seconds: float = 0.0
    reason: str = ""
    code: int | None = None
    log: Path | None = None
    tail: tuple[str, ...] = field(default=(), repr=False)


class Observer(Protocol):
    """Is told what happens; `line` may be called from several threads."""

    def started(self, stage: str) -> None:
        """A stage's commands begin."""

    def line(self, stage: str, text: str) -> None:
        """A stage printed a line."""

    def ended(self, outcome: Outcome) -> None:
        """A stage is decided."""

    def says(self, text: str) -> None:
        """The engine waits for something, or was asked to stop."""


@dataclass(frozen=True)
class Options:
    """How to run a plan."""

    force: bool = False
    keep_going: bool = False
    pull: bool = False


# Runs a job somewhere and calls the last argument with its result, or with what went wrong.
Submit = Callable[[Job, Callable[[str], None], Callable[[Result | BaseException], None]], object]


class Engine:
    """Runs one plan in one repository.

    Args:
        repository: DVC's repository.
        plan: Stages in the order of `dvc repro`.
        budget: What may run at once.
        observer: Is told what happens.
        options: How to run it.
        cluster: Where stages may run besides this machine.
    """

    def __init__(
        self,
        repository: Repository,
        plan: Sequence[Stage],
        budget: Budget,
        observer: Observer,
        options: Options = Options(),
        cluster: Cluster | None = None,
    ) -> None:
        for stage in plan:
            budget.check(stage.name, stage.needs)
        self._repository = repository
        self._plan = {stage.name: stage for stage in plan}
        self._number = {name: number for number, name in enumerate(self._plan)}
        self._observer = observer
        self._options = options
        self._workplace = Workplace(repository.root)
        self._committer = Committer(repository, self._workplace, self._plan)
        self._use = Use(budget)
        self._priorities = _priorities(plan, self._workplace.durations())
        self._waiting = {name: {up for up in stage.upstream if up in self._plan} for name, stage in self._plan.items()}
        self._readers = _readers(plan)
        self._ready: list[tuple[float, int, str]] = []
        self._later: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._overtaken: Counter[str] = Counter()
        self._ended: queue.SimpleQueue[tuple[str, Result | BaseException] | None] = queue.SimpleQueue()
        self._outcomes: dict[str, Outcome] = {}
        self._halted = False
        self._ending: float | None = None
        self._exit: int | None = None
        self._cluster = cluster
        self.runner: Runner = cluster or Runner()

    def run(self, submit: Submit | None = None) -> list[Outcome]:
        """Run the plan and return one outcome per stage, in the order of the plan.

        Args:
            submit: Takes a job to where it runs; threads of this process if not given.

        SIGINT once: nothing more begins, what runs may end. Twice, SIGTERM or SIGHUP: what runs is ended.
        """
        stale = list(self._plan) if self._options.force else affected(self._plan.values())
        with Watchdog(self._repository.root) as dog, self._signals(), ThreadPoolExecutor(len(stale) or 1) as threads:
            self._committer.check_outputs(stale)
            for name, upstream in self._waiting.items():
                if not upstream:
                    heapq.heappush(self._ready, self._key(name))
            try:
                while len(self._outcomes) < len(self._plan):
                    dog.check()
                    self._launch(submit or _in_threads(self.runner, threads))
                    self._committer.record()
                    if len(self._outcomes) < len(self._plan):
                        self._wait()
            except BaseException:
                self.runner.stop()
                self._drain()
                raise
            finally:
                self._committer.record(now=True)
                self._committer.sort_ignored()
                ran = (outcome for outcome in self._outcomes.values() if outcome.status == "ran")
                self._workplace.remember({self._plan[outcome.stage].address: outcome.seconds for outcome in ran})
        if not any(outcome.status == "failed" for outcome in self._outcomes.values()):
            self._repository.stage_in_git()
        if self._exit is not None:
            raise SystemExit(self._exit)
        return [self._outcomes[name] for name in self._plan]

    def stop(self, at_once: bool = False) -> None:
        """Begin nothing more; end what runs if `at_once`. May be called from a signal or another thread."""
        self._halted = True
        if at_once and self._ending is None:
            self._ending = time.monotonic()
            threading.Thread(target=self.runner.stop).start()
        self._ended.put(None)

    def _launch(self, submit: Submit) -> None:
        """Begin every ready stage that fits; decide those that need not run."""
        now = time.monotonic()
        for name in [name for name, when in self._later.items() if when <= now]:
            del self._later[name]
            heapq.heappush(self._ready, self._key(name))
        kept: list[tuple[tuple[float, int, str], set[str]]] = []
        reserved: set[str] = set()
        with self._repository.locked():
            while self._ready and not self._halted:
                key = heapq.heappop(self._ready)
                name, needs = key[-1], self._plan[key[-1]].needs
                lacking = self._use.lacks(needs) | (reserved & needs.named)
                if lacking and self._may_have_changed(self._plan[name]):
                    kept.append((key, lacking))
                    if self._overtaken[name] >= OVERTAKEN:
                        reserved |= lacking
                    continue
                self._begin(name, submit)
                if name in self._running:
                    self._overtaken.update(earlier[-1] for earlier, lacked in kept if lacked & needs.named)
        for key, _ in kept:
            heapq.heappush(self._ready, key)
        if self._halted and not self._running:
            for name in self._plan:
                if name not in self._outcomes:
                    self._settle(Outcome(name, "stopped"), advance=False)

    def _begin(self, name: str, submit: Submit) -> None:
        stage = self._plan[name]
        if not self._may_have_changed(stage):
            self._settle(Outcome(name, "skipped"))
            return
        gpus = self._use.take(name, stage.needs)
        try:
            decision = self._committer.begin(name, self._options.force, self._options.pull)
        except StageError as error:
            self._use.give_back(name)
            self._fail(Outcome(name, "failed", reason=str(error)))
            return
        if decision is not None:
            self._use.give_back(name)
            if decision == "busy":
                self._observer.says(f"{name}: waiting for another DVC process that works on its files")
                self._later[name] = time.monotonic() + BUSY
            else:
                self._settle(Outcome(name, decision))
            return
        try:
            job = self._job(name, gpus)
        except StageError as error:
            self._use.give_back(name)
            self._committer.abandon(name)
            self._fail(Outcome(name, "failed", reason=str(error)))
            return
        self._running[name] = time.monotonic()
        self._observer.started(name)
        submit(
            job,
            lambda line: self._observer.line(name, line),
            lambda result: self._ended.put((name, result)),
        )

    def _wait(self) -> None:
        """Wait until something ends, or is due; then finish all that has ended."""
        timeout = 1.0 if self._running else min(self._later.values(), default=0.0) - time.monotonic()
        try:
            ended = [self._ended.get(timeout=max(timeout, 0.01))]
        except queue.Empty:
            self._give_up()
            return
        while not self._ended.empty():
            ended.append(self._ended.get())
        with self._repository.locked():
            for each in ended:
                if each is not None:
                    self._finish(*each)

    def _finish(self, name: str, result: Result | BaseException) -> None:
        self._use.give_back(name)
        seconds = round(time.monotonic() - self._running.pop(name), 2)
        if isinstance(result, BaseException):
            self._committer.abandon(name)
            self._fail(Outcome(name, "failed", seconds, reason=f"{type(result).__name__}: {result}"))
            return
        log = self._workplace.log(self._plan[name].address)
        if result.code:
            self._committer.abandon(name)
            if self._ending is not None:
                self._settle(Outcome(name, "stopped", seconds, log=log), advance=False)
                return
            self._tries[name] = self._tries.get(name, 0) + 1
            if self._tries[name] <= self._plan[name].needs.retries and not self._halted:
                self._observer.says(f"{name}: exit code {result.code}, trying again")
                heapq.heappush(self._ready, self._key(name))
                return
            ended = f"killed by signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
            self._fail(Outcome(name, "failed", seconds, ended, result.code, log, result.tail))
            return
        try:
            self._committer.finish(name, result.brought)
        except StageError as error:
            self._fail(Outcome(name, "failed", seconds, str(error), 0, log, result.tail))
        else:
            self._settle(Outcome(name, "ran", seconds, code=0, log=log))

    def _fail(self, outcome: Outcome) -> None:
        self._settle(outcome)
        if not self._options.keep_going:
            self._halted = True

    def _settle(self, outcome: Outcome, advance: bool = True) -> None:
        settled = [outcome]
        while settled:
            outcome = settled.pop()
            self._outcomes[outcome.stage] = outcome
            self._observer.ended(outcome)
            if not advance:
                continue
            for reader in self._readers[outcome.stage]:
                if reader in self._outcomes:
                    continue
                self._waiting[reader].discard(outcome.stage)
                if outcome.status in ("failed", "blocked"):
                    settled.append(Outcome(reader, "blocked", reason=f"reads from {outcome.stage}"))
                elif not self._waiting[reader]:
                    heapq.heappush(self._ready, self._key(reader))

    def _give_up(self) -> None:
        # All that runs was ended a while ago: a job that has not told so by now never will.
        if self._ending is not None and time.monotonic() - self._ending > 2 * GRACE:
            for name in list(self._running):
                self._finish(name, Result(-signal.SIGKILL, 0.0))

    def _drain(self) -> None:
        # What ended before the run broke off is finished work.
        while self._running and threading.active_count() > 1:
            try:
                each = self._ended.get(timeout=2 * BUSY)
            except queue.Empty:
                return
            if each is not None:
                self._finish(*each)

    def _may_have_changed(self, stage: Stage) -> bool:
        if self._options.force or stage.changes:
            return True
        return any(self._outcomes[name].status in ("ran", "restored") for name in stage.upstream if name in self._plan)

    def _key(self, name: str) -> tuple[float, int, str]:
        return -self._priorities[name], self._number[name], name

    def _job(self, name: str, gpus: Sequence[str]) -> Job:
        commands, folder, variables = self._repository.commands(name)
        needs = self._plan[name].needs
        added = environment(self._repository.root, self._use.share(needs, len(self._ready)), gpus)
        order = None
        if self._cluster and (order := cluster_order(self._repository, name, needs)):
            self._committer.offer(offered(self._repository, name))
        log = self._workplace.log(self._plan[name].address)
        return Job(name, commands, folder, {**variables, **added}, log, order)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(_: int, __: FrameType | None) -> None:
            again = self._halted
            self._observer.says("ending what runs" if again else "no more stages begin; once more ends those that run")
            self.stop(at_once=again)

        def end(number: int, _: FrameType | None) -> None:
            if self._exit is not None:
                raise SystemExit(self._exit)
            self._exit = 128 + number
            self.stop(at_once=True)

        handlers: Mapping[signal.Signals, Any] = {
            signal.SIGINT: interrupt,
            signal.SIGTERM: end,
            signal.SIGHUP: end,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _in_threads(runner: Runner, threads: ThreadPoolExecutor) -> Submit:
    def submit(job: Job, on_line: Callable[[str], None], on_end: Callable[[Result | BaseException], None]) -> object:
        future = threads.submit(runner.run, job, on_line)
        future.add_done_callback(lambda done: on_end(done.exception() or done.result()))
        return future

    return submit


def _readers(plan: Iterable[Stage]) -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {stage.name: [] for stage in plan}
    for stage in plan:
        for upstream in stage.upstream:
            if upstream in readers:
                readers[upstream].append(stage.name)
    return readers


def _priorities(plan: Sequence[Stage], durations: Mapping[str, float]) -> dict[str, float]:
    """Return for each stage the seconds from its start to the end of all that waits for it.

    A stage that never ran here counts as long as the others take on average, or a second.
    """
    known = [durations[stage.address] for stage in plan if stage.address in durations]
    usual = sum(known) / len(known) if known else 1.0
    readers = _readers(plan)
    found: dict[str, float] = {}
    # The plan lists every stage after those it reads from.
    for stage in reversed(plan):
        after = max((found[name] for name in readers[stage.name]), default=0.0)
        found[stage.name] = durations.get(stage.address, usual) + after
    return found
