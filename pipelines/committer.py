"""The one writer to DVC: decides about a stage as `dvc repro` would, saves what it made, records it in dvc.lock.

Workers run commands and never call DVC. What a stage made is hashed, cached and entered in the journal
as soon as its command ends; dvc.lock, which DVC reads and writes whole, is brought up to date in batches.
A killed run loses nothing of that: the next one reads the journal first.
"""

import base64
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from pipelines.records import StageError, check_inputs, hashes, locked_stages, reason, update_lock
from pipelines.recovery import mend_file_locks
from pipelines.repository import Repository
from pipelines.workplace import Workplace, write
from stages.common.errors import InputError

Decision = Literal["skipped", "restored", "ran", "busy"]
# dvc.lock is written at most this often, and not more than a tenth of the time.
INTERVAL = 2.0
SHARE = 10


class Committer:
    """Begins and finishes stages of one repository; all calls come from one thread.

    Args:
        repository: DVC's repository.
        workplace: Where the journal lies.
        order: All stages of the plan in the order of `dvc repro`, which is that of new entries in dvc.lock.
    """

    def __init__(self, repository: Repository, workplace: Workplace, order: Iterable[str]) -> None:
        self._repository = repository
        self._workplace = workplace
        self._order = {name: number for number, name in enumerate(order)}
        self._stages = repository.stages
        self._definitions = {name: repository.definition(self._stages[name]) for name in self._order}
        self._versions = repository.definition_versions()
        self._definitions_now: Mapping[str, Any] | None = None
        self._running: dict[str, ExitStack] = {}
        self._inputs: dict[str, dict[str, Any]] = {}
        self._pending: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._at_start: dict[str, list[str]] = {}
        self._offered: set[str] = set()
        self._recorded = time.monotonic()
        self._cost = 0.0

    def check_outputs(self, names: Iterable[str]) -> None:
        """Refuse stages that may run, but could not be recorded.

        Raises:
            InputError: Git tracks an output.
        """
        from dvc.output import OutputAlreadyTrackedError

        with self._repository.locked():
            tracked = self._repository.dvc.scm.is_tracked
            for name in names:
                for output in self._stages[name].outs:
                    if output.use_scm_ignore and tracked(output.fspath):
                        raise OutputAlreadyTrackedError(output)

    def sort_ignored(self) -> None:
        """Leave the lines that this run added to .gitignore in the order of `dvc repro`.

        DVC takes them out again if a stage fails, of recorded outputs too, and never puts them back: somebody's data
        is then one `git add .` away from git. Here they stay.
        """
        with self._repository.locked():
            added = set(self._repository.dvc.scm_context.ignored_paths)
            order = [output.fspath for name in self._order for output in self._stages[name].outs if output.use_cache]
            folders: dict[Path, list[str]] = {}
            for path in order:
                if path in added:
                    folders.setdefault(Path(path).parent, []).append(Path(path).name)
            for folder, names in folders.items():
                _sort_ignored(folder / ".gitignore", names)

    def begin(self, name: str, force: bool, pull: bool) -> Decision | None:
        """Decide about a stage whose upstream is done; None means that its commands must run now.

        Its outputs are gone then and DVC's other processes are kept from its files until `finish` or `abandon`.
        `busy`: another DVC process works on its files.

        Raises:
            StageError: It cannot run.
        """
        from dvc.lock import LockError

        stage = self._stages[name]
        with self._repository.locked(), ExitStack() as held:
            self._check_definition(name)
            try:
                if not stage.cmd or stage.frozen:
                    return self._reproduce_without_command(name, force, pull)
                held.enter_context(self._lock_files(stage))
                if not force and not self._changed(stage):
                    return "skipped"
                if not force and pull and not stage.changed(allow_missing=True) and self._pulled(stage):
                    return "restored"
                stage.remove_outs(ignore_remove=False, force=False)
                if not force and self._restored(stage, pull):
                    self._commit(name)
                    return "restored"
                self._inputs[name] = self._inputs_now(stage, force)
            except LockError:
                return "busy"
            except Exception as error:
                # As DVC takes it, whatever it is: this stage has failed, others go on.
                raise StageError(reason(error)) from error
            self._running[name] = held.pop_all()
        return None

    def offer(self, names: Iterable[str]) -> None:
        """Push what other nodes will fetch from the remote; what must not be pushed stays.

        Raises:
            StageError: The remote cannot be written.
        """
        from dvc.exceptions import DvcException

        with self._repository.locked():
            for name in names:
                if name in self._offered:
                    continue
                try:
                    self._repository.push(self._stages[name])
                except (DvcException, OSError) as error:
                    raise StageError(f"pushing its inputs: {reason(error)}") from error
                self._offered.add(name)

    def finish(self, name: str, brought: Mapping[str, Any] | None = None) -> None:
        """Save what a stage's commands made, if its inputs are still those it started with.

        Args:
            name: The stage.
            brought: From another node: its entry for dvc.lock, and the files that the remote does not hold.

        Raises:
            StageError: They are not, or an output is missing, or there is no space left. Nothing is recorded.
        """
        with self._repository.locked():
            try:
                self._save(name, brought)
            except StageError:
                raise
            except Exception as error:
                raise StageError(reason(error)) from error
            finally:
                self._let_go(name)

    def abandon(self, name: str) -> None:
        """Let go of a stage whose commands failed or were stopped."""
        self._inputs.pop(name, None)
        if name in self._running:
            with self._repository.locked():
                self._let_go(name)

    def record(self, now: bool = False) -> None:
        """Bring dvc.lock up to date if it is time to, or `now`.

        Raises:
            InputError: It cannot be written now. What is finished stands in the journal.
        """
        if not self._pending:
            return
        since = time.monotonic() - self._recorded
        if not now and since < max(INTERVAL, SHARE * self._cost):
            return
        start = time.monotonic()
        try:
            with self._repository.locked():
                self._record()
        except OSError as error:
            # What runs may go on: there may be space again when it ends.
            if now:
                remedy = "what is finished is kept; mend that, then run again"
                raise InputError("dvc.lock", f"cannot be written ({error})", remedy) from error
        finally:
            self._recorded = time.monotonic()
            self._cost = self._recorded - start

    def _let_go(self, name: str) -> None:
        from dvc.exceptions import DvcException

        try:
            self._running.pop(name).close()
        except (DvcException, OSError, AssertionError):
            # DVC writes its list of locked files in place: a full disk loses it. Then nobody holds any.
            with suppress(DvcException, OSError):
                mend_file_locks(self._repository)

    def _inputs_now(self, stage: Any, force: bool) -> dict[str, Any]:
        from dvc.exceptions import DvcException

        try:
            stage.save_deps()
        except DvcException:
            if force:
                # DVC does not look at them before a forced run, and fails after it, unless they are there by then.
                return {}
            raise
        return hashes(stage)

    def _changed(self, stage: Any) -> bool:
        # As Stage.changed, which would lock the stage's files twice more.
        if stage.changed_stage() or stage.always_changed or stage.is_callback:
            return True
        return any(item.status() for item in [*stage.deps, *stage.outs])

    def _pulled(self, stage: Any) -> bool:
        from dvc.exceptions import DvcException

        try:
            self._repository.dvc.pull(stage.addressing)
            stage.checkout()
        except DvcException:
            return False
        return True

    def _restored(self, stage: Any, pull: bool) -> bool:
        from dvc.stage.cache import RunCacheNotFoundError

        if pull:
            from dvc.stage.run import _pull_missing_deps

            _pull_missing_deps(stage)
        try:
            self._repository.dvc.stage_cache.restore(stage, pull=pull)
        except (RunCacheNotFoundError, TypeError):
            # DVC trips over an entry whose writer was killed when it had made no more than its folder.
            return False
        return True

    def _reproduce_without_command(self, name: str, force: bool, pull: bool) -> Decision:
        # Imports, added data and frozen stages: nothing to run, so DVC does all of it.
        stage = self._stages[name]
        if stage.reproduce(force=force, pull=pull) is None:
            return "skipped"
        if stage.path.endswith("dvc.yaml"):
            self._enter(name)
        else:
            stage.dump(update_pipeline=False)
        return "ran"

    def _fetch(self, stage: Any, brought: Mapping[str, Any]) -> None:
        # As DVC restores a run from the run-cache of a remote.
        dvc = self._repository.dvc
        made = dvc.stage_cache._create_stage(brought["entry"], wdir=stage.wdir)
        cached = {out.def_path for out in stage.outs if out.use_cache}
        for out in made.outs:
            if out.def_path in cached:
                for objects in out.get_used_objs().values():
                    dvc.cloud.pull(objects)
                out.checkout()
        for out in stage.outs:
            if out.def_path in brought["files"]:
                path = Path(out.fs_path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(brought["files"][out.def_path]))

    def _save(self, name: str, brought: Mapping[str, Any] | None) -> None:
        stage = self._stages[name]
        self._check_definition(name)
        check_inputs(stage, self._inputs.pop(name))
        if brought:
            self._fetch(stage, brought)
        self._commit(name)

    def _commit(self, name: str) -> None:
        stage = self._stages[name]
        uncached = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
        stage.save(run_cache=not uncached)
        stage.commit()
        self._enter(name)

    def _enter(self, name: str) -> None:
        """Write a stage's entry for dvc.lock into the journal."""
        from dvc.utils.serialize import dumps_yaml

        entry = self._repository.entry(self._stages[name]) | {"order": self._order[name]}
        path = self._workplace.journal / f"{self._order[name]:06d}.yaml"
        write(path, dumps_yaml(entry))
        self._pending[name] = path, entry

    def _record(self) -> None:
        for lock in sorted({entry["lock"] for _, entry in self._pending.values()}):
            mine = [entry for _, entry in self._pending.values() if entry["lock"] == lock]
            if lock not in self._at_start:
                self._at_start[lock] = locked_stages(Path(lock))
            update_lock(self._repository, Path(lock), mine, self._at_start[lock], self._order_of(Path(lock)))
        for path, _ in self._pending.values():
            path.unlink()
        self._pending.clear()

    def _order_of(self, lock: Path) -> list[str]:
        found = [self._stages[name] for name in self._order]
        return [stage.name for stage in found if stage.cmd and Path(stage.path).with_suffix(".lock") == lock]

    def _lock_files(self, stage: Any) -> Any:
        """Keep other DVC processes from a stage's files, as `dvc repro` does while it runs."""
        import sys

        from dvc.dependency.db import AbstractDependency
        from dvc.dependency.repo import RepoDependency
        from dvc.rwlock import rwlock

        def paths(items: Iterable[Any]) -> list[str]:
            return [item.fs_path for item in items if not isinstance(item, RepoDependency | AbstractDependency)]

        dvc = self._repository.dvc
        hard = dvc.config["core"].get("hardlink_lock", False)
        return rwlock(dvc.tmp_dir, dvc.fs, " ".join(sys.argv), paths(stage.deps), paths(stage.outs), hard)

    def _check_definition(self, name: str) -> None:
        """Refuse a stage that dvc.yaml, or a variable in it, defines otherwise than when the plan was read."""
        from dvc.exceptions import DvcException

        versions = self._repository.definition_versions()
        if versions != self._versions:
            try:
                self._definitions_now = self._repository.read_again()
            except DvcException as error:
                raise StageError(f"{reason(error)}; nothing is recorded, run again") from error
            self._versions = versions
        now = self._definitions_now
        if now is not None and now.get(name) != self._definitions[name]:
            raise StageError("dvc.yaml defines it otherwise since this run began; nothing is recorded, run again")


def _sort_ignored(file: Path, names: list[str]) -> None:
    wanted = ["/" + re.sub(r"([][\\!*#?])", r"\\\1", name) + "\n" for name in names]
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line in wanted]
    if len(places) != len(wanted) or [lines[place] for place in places] == wanted:
        return
    for place, line in zip(places, wanted, strict=True):
        lines[place] = line
    write(file, "".join(lines))
