"""The last run as a Workflow Run RO-Crate: what git holds of the project, and how DVC made it.

The profile: https://w3id.org/ro/wfrun/workflow/0.5. Models, membership, text and the page stay here: they are named
with the hash that DVC knows them by, and their content is not in the archive.
"""

import mimetypes
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from rocrate.model.computerlanguage import ComputerLanguage
from rocrate.model.contextentity import ContextEntity
from rocrate.model.dataset import Dataset
from rocrate.model.entity import Entity
from rocrate.model.person import Person
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from pipelines import git
from pipelines.graph import affected, read_plan
from pipelines.repository import Repository
from stages.common import artifacts, paths
from stages.common.errors import InputError

WORKFLOW, LOCK = "dvc.yaml", "dvc.lock"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}


def write_crate(path: Path, root: Path) -> None:
    """Write the crate of a repository whose results are up to date.

    Args:
        path: A .zip file; it is replaced.
        root: The repository.

    Raises:
        InputError: `path` is no .zip or cannot be written, the repository has no finished run, or git does not know it.
    """
    if path.suffix != ".zip":
        raise InputError(str(path), "not a .zip file", "give a name that ends in .zip")
    crate = _Crate(root, _stages(root))
    try:
        with artifacts.atomic_file(path) as temporary:
            # The library gives an archive the suffix .zip itself, and leaves out folders that it describes.
            archive = temporary.with_suffix(".zip")
            crate.crate.write_zip(archive)
            with zipfile.ZipFile(archive, "a") as opened:
                for folder in crate.folders:
                    opened.mkdir(folder)
            archive.replace(temporary)
    except OSError as error:
        raise InputError(str(path), f"cannot be written ({error.strerror})", "give a file that can be") from error


class _Crate:
    def __init__(self, root: Path, stages: Sequence[str]) -> None:
        self.root = root
        self.files = _tracked(root)
        if missing := [name for name in (WORKFLOW, LOCK) if name not in self.files]:
            raise InputError(missing[0], "git does not hold it", f"`git add {missing[0]}`")
        locked = yaml.load((root / LOCK).read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"]
        # The lock file keeps stages that there are no longer.
        self.stages = {name: stage for name, stage in locked.items() if name in stages}
        self.commit = _commit(root)
        self.crate = ROCrate(version="1.1")
        self.workflow = self._workflow()
        for name in self.files:
            if name != WORKFLOW:
                kind = mimetypes.guess_type(name)[0] or "text/plain"
                properties = {"name": name, "encodingFormat": kind}
                self.crate.add_file(str(root / name), name, properties=properties, record_size=True)
        self.agent = self._agent()
        actions = [self._action(name, stage) for name, stage in self.stages.items()]
        self._describe([self._run(actions), *actions])

    @property
    def folders(self) -> list[str]:
        """The folders that the crate describes, without a slash at the end."""
        return [entity.id.rstrip("/") for entity in self.crate.data_entities if isinstance(entity, Dataset)]

    def _workflow(self) -> Entity:
        language = ComputerLanguage(
            self.crate,
            "https://dvc.org",
            {
                "name": "Data Version Control",
                "alternateName": "DVC",
                "url": "https://dvc.org",
                "version": version("dvc"),
            },
        )
        self.crate.add(language)
        properties = {
            "name": f"The stages of {self.root.name}",
            "version": self.commit,
            "encodingFormat": "application/yaml",
            "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        }
        source = str(self.root / WORKFLOW)
        workflow: Entity = self.crate.add_workflow(source, WORKFLOW, main=True, lang=language, properties=properties)
        return workflow

    def _agent(self) -> Entity | None:
        name = git.ask("config", "user.name", root=self.root)
        return self.crate.add(Person(self.crate, "#agent", {"name": name})) if name else None

    def _run(self, actions: list[Entity]) -> Entity:
        """Add the run as a whole: from the parameters to all that is in git of what the stages made."""
        made = {out["path"]: None for stage in self.stages.values() for out in stage.get("outs", [])}
        results = [self.crate.get(name) for path in made for name in self._within(path)]
        given = [self.crate.get(name) for name in ("params.yaml",) if name in self.files]
        times = [action[key] for action in actions for key in ("startTime", "endTime") if action.get(key)]
        # Of a run whose stages ran elsewhere, in part, all that is known is when its lock file was committed.
        known = len(times) == 2 * len(actions)
        ended = max(times) if known else git.ask("log", "-1", "--format=%cI", "--", LOCK, root=self.root)
        properties = {
            "name": "Last run of the pipeline",
            "description": "Each stage as it last ran; the times are those of the stages, which are kept while "
            "nothing that they read changes.",
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "endTime": ended,
        } | ({"startTime": min(times)} if known else {})
        run = self._add_action("#run", self.workflow, given, results, properties)
        if given:
            self.workflow["input"] = self._parameter("#parameters", "parameters", given)
        if results:
            self.workflow["output"] = self._parameter("#results", "results", results)
        self.crate.datePublished = ended
        return run

    def _parameter(self, name: str, title: str, examples: list[Entity]) -> Entity:
        parameter = ContextEntity(
            self.crate,
            name,
            {
                "@type": "FormalParameter",
                "name": title,
                "additionalType": "File",
                "multipleValues": str(len(examples) > 1),
                "conformsTo": {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
            },
        )
        self.crate.add(parameter)
        parameter["workExample"] = _one(examples)
        for example in examples:
            example["exampleOfWork"] = parameter
        return parameter

    def _action(self, name: str, stage: Mapping[str, Any]) -> Entity:
        command = stage["cmd"] if isinstance(stage["cmd"], str) else " && ".join(stage["cmd"])
        sides = ([self._entity(each["path"], each) for each in stage.get(side, [])] for side in ("deps", "outs"))
        objects, results = sides
        if stage.get("params") and "params.yaml" in self.files:
            objects.append(self.crate.get("params.yaml"))
        properties = {"name": name, "description": command, "actionStatus": "http://schema.org/CompletedActionStatus"}
        return self._add_action(
            f"#stage/{quote(name)}", self._tool(command), objects, results, properties | self._times(name)
        )

    def _times(self, name: str) -> dict[str, str]:
        """Return when a stage last ran here; nothing where it did not, as in a fresh clone."""
        file = self.root / paths.TIMINGS / f"{name.replace('@', '-')}.json"
        if not file.is_file():
            return {}
        ended = file.stat().st_mtime
        began = ended - artifacts.read_json(file)["seconds"]
        keys = {"startTime": began, "endTime": ended}
        return {key: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for key, at in keys.items()}

    def _add_action(
        self, name: str, tool: Entity, objects: list[Entity], results: list[Entity], properties: dict[str, Any]
    ) -> Entity:
        sides = {"object": _one(objects), "result": _one(results)}
        action: Entity = self.crate.add_action(tool, name, properties=properties, **sides)
        # Whoever packs it ran what ran here.
        if self.agent and "startTime" in properties:
            action["agent"] = self.agent
        return action

    def _tool(self, command: str) -> Entity:
        # The module of `python -m stages.train --study ...`, else the program.
        words = command.split()
        tool = " ".join(words[:3]) if words[1:2] == ["-m"] else words[0]
        found = self.crate.get(f"#tool/{quote(tool)}")
        properties = {"name": tool}
        return found or self.crate.add(SoftwareApplication(self.crate, f"#tool/{quote(tool)}", properties))

    def _within(self, path: str) -> list[str]:
        """Return the files of the archive that are at a path or below it."""
        return [name for name in self.files if name == path or name.startswith(f"{path}/")]

    def _entity(self, path: str, recorded: Mapping[str, Any] | None) -> Entity:
        """Return what stands for a path: the file, the folder with its files, or a mention of what is not there."""
        if path in self.files:
            entity: Entity = self.crate.get(path)
        elif within := self._within(path):
            entity = self.crate.get(f"{path}/") or self.crate.add(
                Dataset(self.crate, None, path, properties={"name": path})
            )
            entity["hasPart"] = _one([self.crate.get(name) for name in within])
        else:
            name = f"#not-included/{quote(path)}"
            description = "Kept by DVC where it was made; not part of this crate."
            properties = {"@type": "CreativeWork", "name": path, "description": description}
            entity = self.crate.get(name) or self.crate.add(ContextEntity(self.crate, name, properties))
        if recorded and recorded.get("md5"):
            entity["identifier"] = f"md5:{recorded['md5']}"
        return entity

    def _describe(self, actions: list[Entity]) -> None:
        root = self.crate.root_dataset
        root["name"] = f"A run of {self.root.name}"
        root["description"] = (
            "Results of a DVC pipeline, with the parameters, code and commands that made them. Metrics, curves and "
            "tables are aggregates; the data, models and scores of single examples are not included."
        )
        root["version"] = self.commit
        if "LICENSE" in self.files:
            root["license"] = self.crate.get("LICENSE")
        if "README.md" in self.files:
            self.crate.get("README.md")["about"] = root
        if self.agent:
            root["author"] = self.agent
        root["mentions"] = actions
        root["conformsTo"] = [
            self.crate.add(ContextEntity(self.crate, uri, {"@type": "CreativeWork", "name": name, "version": number}))
            for uri, (name, number) in PROFILES.items()
        ]


def _one(entities: list[Entity]) -> Entity | list[Entity]:
    # As JSON-LD recommends: a list of one is written as that one.
    return entities[0] if len(entities) == 1 else entities


def _stages(root: Path) -> list[str]:
    """Return the names of the stages; InputError if one would run again."""
    with Repository(root) as repository:
        plan = read_plan(repository)
    if stale := affected(plan):
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise InputError(LOCK, f"{stale[0]}{more} would run again", "`assay run` first: a crate is of a finished run")
    return [stage.name for stage in plan]


def _tracked(root: Path) -> list[str]:
    said = git.ask("ls-files", "-z", root=root)
    if said is None:
        raise InputError(str(root), "no git repository", "`git init` starts one; a crate holds what git holds")
    found = [name for name in said.split("\0") if name and (root / name).is_file()]
    if links := [name for name in found if (root / name).is_symlink()]:
        raise InputError(links[0], "a link: git holds it, and not what it leads to", "put a file in its place")
    return found


def _commit(root: Path) -> str:
    head = git.ask("rev-parse", "HEAD", root=root) or "no commit yet"
    edited = git.ask("status", "--porcelain", "--untracked-files=no", root=root)
    return f"{head} with uncommitted changes" if edited else head
