"""DVC's graph of the project as a plan: which stages, in which order, and why each would run."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError

PIPELINE = Path("dvc.yaml")


@dataclass(frozen=True)
class Stage:
    """One stage as DVC resolved it; `changes` says why it would run and is empty when it is up to date.

    `upstream` names the stages it reads from. A stage whose upstream runs may have to run too, although
    it has no changes of its own yet.
    """

    name: str
    command: str
    dependencies: tuple[str, ...]
    outputs: tuple[str, ...]
    upstream: tuple[str, ...]
    changes: tuple[str, ...]


def read_plan(targets: Sequence[str] = (), root: Path | None = None) -> list[Stage]:
    """Return the stages that `dvc repro TARGETS` would visit, in its order.

    Args:
        targets: Stages, groups (`train-joint`) or studies (`joint`); none means the whole graph.
        root: The project's folder; the current one if not given.

    Raises:
        InputError: There is no such target, or DVC cannot read the project.
    """
    folder = root or Path.cwd()
    names = resolve(targets, folder)
    with _repository(folder) as repo:
        from dvc.repo.reproduce import get_active_graph, plan_repro

        graph = get_active_graph(repo.index.graph)
        order = plan_repro(graph, _named(repo.index.stages, names))
        return [_stage(stage, graph.successors(stage)) for stage in order]


def affected(plan: Iterable[Stage]) -> list[str]:
    """Return the stages that would run at most: those with changes and all that reads from them."""
    names: list[str] = []
    for stage in plan:
        if stage.changes or not set(stage.upstream).isdisjoint(names):
            names.append(stage.name)
    return names


def resolve(targets: Iterable[str], root: Path) -> list[str]:
    """Return targets as `dvc repro` takes them: a study becomes its groups."""
    groups = _groups(root)
    return [name for target in targets for name in _of_study(groups, target) or [target]]


def study_targets(study: str, root: Path) -> list[str]:
    """Return the groups of a study; `dvc repro` of them brings what they read from.

    Raises:
        InputError: No group of dvc.yaml is named `<verb>-<study>`.
    """
    groups = _groups(root)
    if found := _of_study(groups, study):
        return found
    known = dict.fromkeys(name.rpartition("-")[2] for name in groups if "-" in name)
    raise InputError(str(PIPELINE), f"has no study `{study}`", f"it has: {', '.join(known) or 'none'}")


def _of_study(groups: Iterable[str], study: str) -> list[str]:
    return [name for name in groups if name.endswith(f"-{study}")]


def _groups(root: Path) -> list[str]:
    # Read without DVC, whose import alone would take longer.
    path = root / PIPELINE
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(PIPELINE), "no such file", "run from the root of the project") from None
    except YAMLError as error:
        raise InputError(str(PIPELINE), f"not YAML ({error})", "mend the line it names") from None
    return list((content or {}).get("stages") or {})


def _named(stages: Iterable[Any], names: Iterable[str]) -> list[Any]:
    # DVC's own look-up would read dvc.yaml and dvc.lock again, which takes longer than all the rest.
    found = []
    for name in names:
        matches = [stage for stage in stages if stage.addressing == name or stage.addressing.startswith(f"{name}@")]
        if not matches:
            groups = dict.fromkeys(stage.addressing.partition("@")[0] for stage in stages)
            remedy = f"name a stage, a study or a group: {', '.join(groups)}"
            raise InputError(str(PIPELINE), f"has no stage or study `{name}`", remedy)
        found += matches
    return found or [stage for stage in stages if stage.path_in_repo == str(PIPELINE)]


@contextmanager
def _repository(root: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        # Another DVC process holds the lock for moments only, except while it saves large outputs.
        with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
            yield repo
    except DvcException as error:
        causes = [str(error)] if error.__cause__ is None else [str(error), str(error.__cause__)]
        raise InputError("DVC", ": ".join(causes), "`dvc status` says more, `dvc init` starts a repository") from error


def _stage(stage: Any, upstream: Iterable[Any]) -> Stage:
    commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd or ""]
    return Stage(
        name=stage.addressing,
        command="\n".join(commands),
        dependencies=tuple(dict.fromkeys(dependency.def_path for dependency in stage.deps)),
        outputs=tuple(output.def_path for output in stage.outs),
        upstream=tuple(sorted(other.addressing for other in upstream)),
        changes=tuple(_changes(stage.status().get(stage.addressing, []))),
    )


def _changes(status: Iterable[str | dict[str, Any]]) -> Iterator[str]:
    for entry in status:
        if isinstance(entry, str):
            yield entry
            continue
        for paths in entry.values():
            for path, what in paths.items():
                # A parameter file maps its keys to what became of them.
                details = what.items() if isinstance(what, dict) else [(path, what)]
                yield from (f"{state}: {name}" for name, state in details)
