"""DVC's repository, opened once for a whole run."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipelines import SET_HERE
from stages.common.errors import InputError


def say_nothing(_: str) -> None:
    """Ignore a message."""


class Repository:
    """The DVC repository around a folder.

    Not thread-safe: DVC's locks know processes only, so all calls come from one thread.

    Args:
        folder: Any folder of the repository.
        tell: Is given a line when DVC's lock must be waited for.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = say_nothing) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        # DVC logs to the standard output what it does to a stage, which the engine says itself.
        logging.getLogger("dvc").setLevel(logging.WARNING)
        try:
            self.dvc = Repo(str(folder))
        except DvcException as error:
            raise _unreadable(error) from error
        self.root = Path(self.dvc.root_dir)
        self._tell = tell
        self._parameter_files: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {}

    def close(self) -> None:
        """Close what DVC holds open."""
        self.dvc.close()

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold DVC's lock, waiting for whoever has it; it may be taken again inside."""
        from dvc.exceptions import DvcException

        if self.dvc._lock_depth:
            yield
            return
        self._lock()
        # DVC's own methods then know that the lock is held.
        self.dvc._lock_depth = 1
        try:
            yield
        except DvcException as error:
            raise _unreadable(error) from error
        finally:
            self.dvc._lock_depth = 0
            self.dvc.lock.unlock()

    def _lock(self) -> None:
        from dvc.lock import LockError

        told = False
        while True:
            try:
                # Fails after three seconds.
                self.dvc.lock.lock()
            except LockError:
                if not told:
                    self._tell("waiting for another DVC process that holds the repository's lock")
                told = True
            else:
                return

    @cached_property
    def stages(self) -> dict[str, Any]:
        """DVC's stages by the name that they have in the current folder, as first read.

        Their parameters are read once per version of a file.
        """
        found = {stage.addressing: stage for stage in self.dvc.index.stages}
        for stage in found.values():
            for dependency in stage.params:
                dependency.read_params = partial(self._read_parameters, dependency, type(dependency).read_params)
        return found

    def address(self, stage: Any) -> str:
        """Return a stage's name as DVC says it at the root: what it goes by in files, and on another machine."""
        path = os.path.relpath(stage.path, self.root)
        # A .dvc file is one stage and has no name.
        name = getattr(stage, "name", "")
        if not name or path == "dvc.yaml":
            return name or path
        return f"{path}:{name}"

    def collect(self, target: str) -> list[Any]:
        """Return the stages DVC means by a target: a file, or a stage of another dvc.yaml."""
        from dvc.exceptions import DvcException

        try:
            collected = self.dvc.stage.collect(target)
        except DvcException as error:
            groups = dict.fromkeys(name.partition("@")[0] for name in self.stages)
            remedy = f"name a stage, a group, a study, or a file of DVC; groups are: {', '.join(groups) or 'none'}"
            raise InputError("dvc.yaml", f"nothing is named `{target}` ({error})", remedy) from error
        return [self.stages.get(stage.addressing, stage) for stage in collected]

    def commands(self, name: str) -> tuple[tuple[tuple[str, ...], ...], Path, dict[str, str]]:
        """Return what `dvc repro` would run for a stage: argument lists, the folder, the environment."""
        from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs

        stage = self.stages[name]
        shell = get_executable()
        lists = tuple(tuple(_make_cmd(shell, command)) for command in _enforce_cmd_list(stage.cmd))
        options = prepare_kwargs(stage)
        environment: dict[str, str] = options["env"]
        for variable, given in SET_HERE.items():
            environment.pop(variable, None)
            if given is not None:
                environment[variable] = given
        return lists, Path(options["cwd"]), environment

    def entry(self, stage: Any) -> dict[str, Any]:
        """Return what the lock file is to hold of a stage, and which: `lock`, `stages`."""
        from dvc.stage.serialize import to_lockfile

        # A copy: YAML would write a value that two stages share as an anchor and an alias.
        return {"lock": str(Path(stage.path).with_suffix(".lock")), "stages": deepcopy(to_lockfile(stage))}

    def push(self, stage: Any) -> None:
        """Push what a stage made, recorded or not; what must not be pushed stays here."""
        for output in stage.outs:
            if output.use_cache and output.can_push:
                for objects in output.get_used_objs().values():
                    self.dvc.cloud.push(objects)

    def stage_in_git(self) -> None:
        """Add what was written to git's index, if DVC's `core.autostage` asks for it."""
        context = self.dvc.scm_context
        if context.autostage:
            context.track_changed_files()

    def definition(self, stage: Any) -> tuple[Any, ...]:
        """Return what a stage is: its command and the names of all it reads and writes."""
        parameters = {(item.def_path, tuple(item.params)) for item in stage.params}
        plain = {item.def_path for item in stage.deps if item not in stage.params}
        outputs = {(item.def_path, item.use_cache, item.persist) for item in stage.outs}
        return str(stage.cmd), str(stage.wdir), plain, parameters, outputs

    def read_again(self) -> dict[str, tuple[Any, ...]]:
        """Return the definitions of all stages as the files say now, without a look at their data."""
        from dvc.repo import Repo

        with Repo(str(self.root)) as fresh:
            fresh._lock_depth = 1
            return {stage.addressing: self.definition(stage) for stage in fresh.index.stages}

    def definition_versions(self) -> dict[Path, tuple[int, ...] | None]:
        """Return what tells versions apart of the files that define stages: dvc.yaml and those of its variables."""
        return {path: _version(path) for path in self._definition_files}

    @cached_property
    def _definition_files(self) -> set[Path]:
        files = {stage.path: stage.dvcfile for stage in self.stages.values() if stage.path.endswith("dvc.yaml")}
        variables = {Path(path).parent / name for path, file in files.items() for name in file.resolver.context.imports}
        return {Path(path) for path in files} | variables

    def _read_parameters(self, dependency: Any, read: Callable[..., Any], **options: Any) -> Any:
        # DVC parses the whole file for each stage: with 200 stages that is most of what `dvc status` does.
        import dpath

        version = _version(Path(dependency.fs_path))
        if version is None or not dependency.params or options:
            return read(dependency, **options)
        if self._parameter_files.get(dependency.fs_path, (None,))[0] != version:
            every = type(dependency)(dependency.stage, dependency.fs_path, repo=dependency.repo)
            self._parameter_files[dependency.fs_path] = version, read(every), {}
        _, content, values = self._parameter_files[dependency.fs_path]
        for name in dependency.params:
            if name not in values:
                with suppress(KeyError):
                    values[name] = dpath.get(content, name, separator=".")
        return {name: values[name] for name in dependency.params if name in values}


def overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or within it."""
    first, second = Path(one), Path(other)
    return first.is_relative_to(second) or second.is_relative_to(first)


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unreadable(error: Exception) -> InputError:
    causes: Mapping[str, None] = dict.fromkeys(
        str(each) for each in (error, error.__cause__, getattr(error.__cause__, "__cause__", None)) if each
    )
    return InputError("DVC", ": ".join(causes), "`dvc status` says more, `dvc init` starts a repository")
