"""DVC's graph as a plan: which stages, in which order, what each needs, and why it would run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.repository import Repository
from pipelines.resources import Needs, needs
from stages.common.errors import InputError

PIPELINE = Path("dvc.yaml")


@dataclass(frozen=True)
class Stage:
    """One stage as DVC resolved it; `changes` says why it would run and is empty when it is up to date.

    `name` is what DVC calls it in the current folder, `address` at the root. `upstream` names the stages it
    reads from. A stage whose upstream runs may have to run too, although it has no changes of its own yet.
    """

    name: str
    address: str
    commands: tuple[str, ...]
    dependencies: tuple[str, ...]
    outputs: tuple[str, ...]
    upstream: tuple[str, ...]
    changes: tuple[str, ...]
    needs: Needs


@dataclass(frozen=True)
class Selection:
    """What to visit, as the options of `dvc repro` of the same names; no targets means ./dvc.yaml."""

    targets: Sequence[str] = ()
    single_item: bool = False
    downstream: bool = False


def read_plan(repository: Repository, selection: Selection = Selection()) -> list[Stage]:
    """Return the stages that `dvc repro` would visit, in its order.

    A target is what `dvc repro` takes (a stage, a file), or a group (`train-joint`) or a study (`joint`).

    Raises:
        InputError: There is no such target, or DVC cannot read the repository.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro

    with repository.locked():
        graph = get_active_graph(repository.dvc.index.graph)
        chosen = _chosen(repository, selection.targets)
        order = plan_repro(graph, chosen, downstream=selection.downstream)
        if selection.single_item:
            order = [stage for stage in order if stage in chosen]
        return [_stage(repository, stage, graph.successors(stage)) for stage in order]


def affected(plan: Iterable[Stage]) -> list[str]:
    """Return the stages that would run at most: those with changes and all that reads from them."""
    names: set[str] = set()
    for stage in plan:
        if stage.changes or not names.isdisjoint(stage.upstream):
            names.add(stage.name)
    return [stage.name for stage in plan if stage.name in names]


def study_targets(study: str, root: Path) -> list[str]:
    """Return the groups of a study; `dvc repro` of them brings what they read from.

    Raises:
        InputError: No group of dvc.yaml is named `<verb>-<study>`.
    """
    if found := _of_study(_groups(root), study):
        return found
    raise InputError(str(PIPELINE), f"has no study `{study}`", f"it has: {', '.join(staged_studies(root)) or 'none'}")


def staged_studies(root: Path) -> list[str]:
    """Return the studies of dvc.yaml: what its groups are named after, behind the verb."""
    return list(dict.fromkeys(name.rpartition("-")[2] for name in _groups(root) if "-" in name))


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


def _chosen(repository: Repository, targets: Sequence[str]) -> list[Any]:
    # DVC's own look-up reads dvc.yaml and dvc.lock once more, which takes longer than all the rest: it comes last.
    stages = repository.stages
    if not targets:
        here = str(PIPELINE.absolute())
        if found := [stage for stage in stages.values() if stage.path == here]:
            return found
        return repository.collect(str(PIPELINE))
    groups: dict[str, list[Any]] = {}
    for name, stage in stages.items():
        groups.setdefault(name.partition("@")[0], []).append(stage)
    found = []
    for target in targets:
        if target in stages:
            found.append(stages[target])
        elif target in groups:
            found += groups[target]
        elif studied := _of_study(groups, target):
            found += [stage for name in studied for stage in groups[name]]
        else:
            found += repository.collect(target)
    return list(dict.fromkeys(found))


def _stage(repository: Repository, stage: Any, upstream: Iterable[Any]) -> Stage:
    commands = stage.cmd if isinstance(stage.cmd, list) else (stage.cmd or "").splitlines()
    return Stage(
        name=stage.addressing,
        address=repository.address(stage),
        commands=tuple(commands),
        dependencies=tuple(dict.fromkeys(dependency.def_path for dependency in stage.deps)),
        outputs=tuple(output.def_path for output in stage.outs),
        upstream=tuple(sorted(other.addressing for other in upstream)),
        changes=tuple(_changes(stage)),
        needs=needs(stage.meta, stage.addressing),
    )


def _changes(stage: Any) -> Iterator[str]:
    """Say why a stage would run, as `Stage.status` of DVC finds it, but without taking a lock for each look."""
    if not stage.frozen:
        for dependency in stage.deps:
            yield from _change(dependency, "dependency")
    for output in stage.outs:
        yield from _change(output, "output")
    if stage.is_callback or stage.always_changed:
        yield "always runs"
    if stage.changed_stage():
        yield "command or definition changed"


def _change(item: Any, kind: str) -> Iterator[str]:
    from dvc.exceptions import DvcException

    try:
        status = item.status()
    except (DvcException, OSError) as error:
        # A link to nothing, a file that is not YAML: the stage will fail, unless one before it mends that.
        yield f"{kind} cannot be read: {item} ({error})"
        return
    for path, what in status.items():
        if not isinstance(what, dict):
            yield f"{kind} {what}: {path}"
            continue
        before, now = item.hash_info.value or {}, item.read_params()
        for key, state in what.items():
            values = f" ({_shown(before[key])} -> {_shown(now[key])})" if key in before and key in now else ""
            yield f"parameter {state}: {key}{values}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
