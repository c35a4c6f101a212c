"""Send stages to the nodes of a Ray cluster, each with a clone of its own at the same commit.

A node fetches the inputs it lacks from the DVC remote, runs the stage and pushes what it made; the head
fetches that and records it. Stages that touch what must not be pushed, or what neither git nor the
remote can bring to a node, run on the head.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines import git, node
from pipelines.records import hashes
from pipelines.repository import Repository, overlap
from pipelines.resources import Budget, Needs
from pipelines.runner import Job, Result, Runner
from stages.common.errors import InputError

# Where a node's clone is, in the environment that its `ray start` was given.
CLONE = "ASSAY_CLONE"
# How often a stage is sent out anew when the node it ran on is lost.
LOSSES = 3


class Cluster(Runner):
    """Runs jobs on Ray's nodes, and on this machine those that may not leave it.

    Args:
        repository: DVC's repository at the head.
        address: Of the Ray cluster; `auto` for the one this machine belongs to.
    """

    def __init__(self, repository: Repository, address: str) -> None:
        super().__init__()
        import ray

        self.commit = clean_commit(repository)
        if not repository.dvc.config["core"].get("remote"):
            raise InputError(".dvc/config", "names no default remote", "`dvc remote add -d NAME URL`: nodes share it")
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError("RAY_ADDRESS", f"no cluster at `{address}` ({error})", "`ray start --head`") from error
        self._ray: Any = ray
        self._sent: dict[str, Any] = {}

    def budget(self, jobs: int | None) -> Budget:
        """Return what all nodes have together; Ray places each stage where it fits."""
        has = self._ray.cluster_resources()
        gpus = tuple(str(number) for number in range(int(has.get("GPU", 0))))
        return Budget(jobs or int(has.get("CPU", 1)), has.get("CPU", 1), int(has.get("memory", 0)), gpus)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def run(self, job: Job, on_line: Callable[[str], None]) -> Result:
        """Run a job where it may run, again if its node is lost."""
        if job.order is None:
            return super().run(job, on_line)
        for left in reversed(range(LOSSES)):
            try:
                return self._send(job, job.order, on_line)
            except self._ray.exceptions.RayError as error:
                if self._stopped or not left:
                    raise
                on_line(f"its node is lost ({type(error).__name__}); it is sent to another")
        raise AssertionError

    def stop(self) -> None:
        """End all jobs, here and on the nodes."""
        super().stop()
        for task in list(self._sent.values()):
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(task, force=True)

    def _send(self, job: Job, order: Mapping[str, Any], on_line: Callable[[str], None]) -> Result:
        needs: Needs = order["needs"]
        send = self._ray.remote(work).options(
            num_cpus=needs.cpus or 1, num_gpus=needs.gpus, memory=needs.memory or None, max_retries=0
        )
        plain = {key: value for key, value in order.items() if key != "needs"}
        stream: Any = send.remote(json.dumps(plain | {"commit": self.commit}, default=str))
        self._sent[job.name] = stream
        try:
            for reference in stream:
                said = self._ray.get(reference)
                if isinstance(said, str):
                    on_line(said)
                else:
                    return node.as_result(said)
        finally:
            del self._sent[job.name]
        raise RuntimeError("the node said nothing of how it ended")


def clean_commit(repository: Repository) -> str:
    """Return the commit that nodes must be at; InputError if the working tree has edits that git does not hold.

    What the run itself writes does not count: dvc.lock, .gitignore and outputs that git keeps.
    """
    root, remedy = repository.root, "commit first: nodes work at a commit"
    written = {Path(out.fs_path) for stage in repository.stages.values() for out in stage.outs if not out.use_cache}
    edited = [
        path
        for path in git.demand("diff", "--name-only", "HEAD", root=root, remedy=remedy).splitlines()
        if Path(path).name not in ("dvc.lock", ".gitignore") and root / path not in written
    ]
    if edited:
        raise InputError(edited[0], "has edits that are not committed", remedy)
    return git.demand("rev-parse", "HEAD", root=root, remedy=remedy)


def order(repository: Repository, name: str, needs: Needs) -> dict[str, Any] | None:
    """Return what a node must know to run a stage, or None if it may only run on the head."""
    stage = repository.stages[name]
    makers = {out.fs_path: (out, maker) for maker in repository.stages.values() for out in maker.outs}
    if stage.frozen or not all(_may_travel(out) or _is_small(out) for out in stage.outs):
        return None
    upstream = {}
    for dependency in stage.deps:
        for path, (out, maker) in makers.items():
            if not overlap(path, dependency.fs_path):
                continue
            if not _may_travel(out):
                return None
            # Added data has its entry in git.
            if maker.cmd:
                upstream[maker.addressing] = maker
    entries = [repository.entry(maker) for maker in upstream.values()]
    for entry in entries:
        entry["lock"] = os.path.relpath(entry["lock"], repository.root)
    return {
        "stage": repository.address(stage),
        "entries": entries,
        "inputs": node.as_text(hashes(stage)),
        "needs": needs,
        # Ray keeps one core for a stage that asks for none.
        "processes": max(1, int(needs.cpus)),
    }


def offered(repository: Repository, name: str) -> list[str]:
    """Return the stages whose outputs a node will fetch from the remote."""
    stage = repository.stages[name]
    reads = [dependency.fs_path for dependency in stage.deps]
    return [
        other.addressing
        for other in repository.stages.values()
        if any(overlap(out.fs_path, path) for out in other.outs for path in reads)
    ]


def work(order: str) -> Iterator[str | dict[str, Any]]:
    """Carry out an order in this node's clone: give each line of output, and at last the result."""
    clone = os.environ.get(CLONE)
    if not clone:
        yield {"error": f"{CLONE} is not set on this node: start Ray there with {CLONE}=/path/to/its/clone"}
        return
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.node"],
            cwd=clone,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        # Stays open: its end tells the process that this worker is gone.
        process.stdin.write(json.dumps(json.loads(order) | {"result": str(result)}) + "\n")
        process.stdin.flush()
        last = ""
        for line in process.stdout:
            last = line.rstrip("\n")
            yield last
        process.wait()
        if result.exists():
            yield json.loads(result.read_text(encoding="utf-8"))
        else:
            yield {"error": f"the node's process ended with exit code {process.returncode}: {last}"}


def _may_travel(out: Any) -> bool:
    return bool(out.use_cache and out.can_push and out.is_in_repo)


def _is_small(out: Any) -> bool:
    # A file that git keeps, such as metrics, comes back with the result.
    return bool(not out.use_cache and (out.metric or out.plot))
