"""Run one stage in a node's own clone: `python -m pipelines.node`, started by pipelines/cluster.py.

Reads what to do as one line of JSON, prints what the stage prints, and writes the result to a file. Ends
itself and the stage when its standard input closes, which is how it learns that its Ray worker is gone.
"""

import base64
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines import git
from pipelines.records import StageError, check_inputs, hashes, locked_stages, reason, update_lock
from pipelines.repository import Repository, overlap
from pipelines.runner import Job, Result, Runner, environment
from pipelines.watchdog import Watchdog, marked
from pipelines.workplace import Workplace, write
from stages.common.errors import InputError


def main() -> None:
    """Carry out one order."""
    order = json.loads(sys.stdin.readline())
    runner = Runner()
    threading.Thread(target=_end_with_worker, args=(runner,), daemon=True).start()
    try:
        result = carry_out(order, Path.cwd(), runner)
    except (StageError, InputError, OSError) as error:
        result = {"error": str(error)}
    write(Path(order["result"]), json.dumps(result, default=str))


def carry_out(order: Mapping[str, Any], root: Path, runner: Runner) -> dict[str, Any]:
    """Fetch what a stage reads, run it, push what it made; return how it ended and its entry for dvc.lock.

    Args:
        order: `stage`; `commit` that the clone must be at; `entries` of dvc.lock for the stages it reads
            from; `inputs`, the hash of each of its dependencies at the head.
        root: The clone.
        runner: Runs the stage's commands.
    """
    _check_commit(root, order["commit"])
    with Repository(root) as repository, repository.locked():
        for entry in order["entries"]:
            lock = root / entry["lock"]
            update_lock(repository, lock, [entry], locked_stages(lock), list(entry["stages"]))
    with Repository(root) as repository:
        stage = repository.stages[order["stage"]]
        made = [output.fs_path for other in repository.stages.values() for output in other.outs]
        with repository.locked():
            try:
                fetched = [dep.fs_path for dep in stage.deps if any(overlap(dep.fs_path, path) for path in made)]
                if fetched:
                    repository.dvc.pull(fetched, force=True)
                stage.remove_outs(ignore_remove=False, force=False)
                stage.save_deps()
            except Exception as error:
                raise StageError(f"fetching its inputs: {reason(error)}") from error
        here = hashes(stage)
        said = as_text(here)
        if moved := [path for path, value in order["inputs"].items() if said.get(path) != value]:
            raise StageError(f"its inputs on this node are not those of the head: {', '.join(moved)}")
        # Ray kills this process with its worker before it can end the stage itself.
        with Watchdog(root, order["stage"]):
            result = runner.run(
                _job(repository, order["stage"], order["processes"]), lambda line: print(line, flush=True)
            )
        if result.code:
            return {"code": result.code, "seconds": result.seconds, "tail": result.tail}
        with repository.locked():
            return {"code": 0, "seconds": result.seconds, "tail": result.tail, **_save(repository, stage, here)}


def as_text(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what `hashes` found as text that travels."""
    return {name: json.dumps(value, sort_keys=True, default=str) for name, value in found.items()}


def _save(repository: Repository, stage: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    from dvc.stage.serialize import to_single_stage_lockfile

    try:
        check_inputs(stage, before)
        stage.save(run_cache=False)
        stage.commit()
        repository.push(stage)
    except StageError:
        raise
    except Exception as error:
        raise StageError(reason(error)) from error
    plain = {out.def_path: Path(out.fs_path) for out in stage.outs if not out.use_cache}
    files = {name: base64.b64encode(path.read_bytes()).decode() for name, path in plain.items()}
    return {"entry": to_single_stage_lockfile(stage), "files": files}


def _job(repository: Repository, name: str, processes: int) -> Job:
    commands, folder, variables = repository.commands(name)
    log = Workplace(repository.root).log(name)
    # The mark of this stage in this clone: other stages may run beside it.
    added = environment(repository.root, processes) | marked(repository.root, name)
    return Job(name, commands, folder, {**variables, **added}, log)


def _check_commit(root: Path, commit: str) -> None:
    remedy = "check the same one out"
    if (here := git.demand("rev-parse", "HEAD", root=root, remedy=remedy)) != commit:
        raise InputError(str(root), f"is at commit {here[:12]}, the run at {commit[:12]}", remedy)


def _end_with_worker(runner: Runner) -> None:
    with suppress(OSError):
        sys.stdin.read()
    runner.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def as_result(said: Mapping[str, Any]) -> Result:
    """Return what a node said as the result of a job; StageError if the stage did not get to run."""
    if "error" in said:
        raise StageError(said["error"])
    brought = {"entry": said["entry"], "files": said["files"]} if not said["code"] else None
    return Result(said["code"], said["seconds"], tuple(said["tail"]), brought)


if __name__ == "__main__":
    main()
