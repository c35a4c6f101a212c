"""Validate params.yaml as a whole before anything runs: every block, every cell, and what refers to what."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from pipelines.compare import DiffSettings
from pipelines.profiles import FOLDER, available
from stages.common.cells import SHARED, Cell, cells, read_cell
from stages.common.errors import InputError
from stages.common.paths import prepared_path
from stages.common.references import Refers, references
from stages.common.settings import PARAMETERS, Settings, block, parse
from stages.models.settings import FOR_OTHER_MODELS, parse_model, read_any_model, read_fitted_model
from stages.partition.settings import PartitionSettings
from stages.partition.settings import read as partition_settings
from stages.prepare.settings import SPLITS, dataset_settings
from stages.report.settings import agreement, profile, targets
from stages.results.sources import SHARED_BLOCKS, sources, studies
from stages.results.verbs import FITTING, OF_STUDIES, VERBS
from stages.score.settings import ScoreSettings
from stages.shadow.settings import ShadowSettings
from stages.train.settings import TrainSettings

SCHEMAS: dict[str, type[Settings]] = {name: resolve_name(VERBS[name].schema) for name in OF_STUDIES}
# Study names end stage names after a hyphen; cell names are parts of stage names and of paths.
STUDY = re.compile(r"[a-z][a-z0-9_]*")
CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def validate(parameters: dict[str, Any]) -> None:
    """Raise InputError for the first thing in params.yaml that some stage could not use."""
    _check_profile(profile(parameters))
    parse(DiffSettings, parameters.get("diff") or {}, "diff")
    for name in _mapping(parameters, "datasets"):
        dataset_settings(parameters, name)
    partitions = {name: partition_settings(parameters, name) for name in _mapping(parameters, "partitions")}
    for name, partition in partitions.items():
        if "train" not in dataset_settings(parameters, partition.dataset).files.given():
            problem = f"`{partition.dataset}` has no split `train` to deal"
            raise _error(f"partitions.{name}.dataset", problem, "name data that have")
    for name, model in _mapping(parameters, "models").items():
        parse_model(model, f"models.{name}")
    # All grids first: a cell may refer to another study's.
    verbs = {study: _verbs(parameters, study) for study in studies(parameters)}
    for study in verbs:
        _check_cells(parameters, study, verbs[study], partitions)
    for study in targets(parameters):
        if study not in verbs:
            raise _error("report.targets", f"has no study `{study}`", f"there are: {', '.join(verbs)}")
    # Refused before anything runs, not by the report, which comes last.
    agreement(parameters)


def _check_profile(name: str) -> None:
    if FOLDER.is_dir() and name not in (known := available()):
        raise _error(
            "profile", f"there is no `{name}`", f"a profile is a file in profiles/; there are: {', '.join(known)}"
        )


def _verbs(parameters: dict[str, Any], study: str) -> list[str]:
    section = parameters[study]
    verbs = [verb for verb in SCHEMAS if isinstance(section, dict) and verb in section]
    if not verbs:
        allowed = f"{', '.join(SHARED_BLOCKS)}, or a study, which has one of {', '.join(SCHEMAS)}"
        raise _error(study, f"{section!r} is no study", f"allowed: {allowed}")
    if not STUDY.fullmatch(study):
        raise _error(study, f"`{study}` cannot name a study", "use small letters, digits and _")
    for key in section:
        if key not in SHARED and key not in SCHEMAS:
            raise _error(f"{study}.{key}", "no such setting", f"allowed: {', '.join([*SHARED, *SCHEMAS])}")
    for verb in verbs:
        _check_grid(parameters, study, verb)
    return verbs


def _check_cells(
    parameters: dict[str, Any], study: str, verbs: Iterable[str], partitions: Mapping[str, PartitionSettings]
) -> None:
    made_by: dict[str, str] = {}
    for verb in verbs:
        for name in cells(parameters, study, verb):
            cell = read_cell(parameters, study, verb, name, SCHEMAS[verb])
            if verb in FITTING and (other := made_by.setdefault(name, verb)) != verb:
                both = f"`{name}` is a cell of {other} too, and both would write {cell.place.models}"
                raise _error(f"{study}.{verb}.grid", both, "rename one of them")
            _References(parameters, partitions, cell).check()
    sources(parameters, study)
    for verb in verbs:
        _check_values(parameters, study, verb)


def _check_grid(parameters: dict[str, Any], study: str, verb: str) -> None:
    for cell in cells(parameters, study, verb):
        if not CELL.fullmatch(cell):
            raise _error(f"{study}.{verb}.grid", f"`{cell}` cannot name a cell", "use letters, digits, _ and -")
    allowed = ["grid", "base", *parameters[study][verb]["grid"]]
    for key in parameters[study][verb]:
        if key not in allowed:
            raise _error(f"{study}.{verb}.{key}", "no such block", f"allowed: {', '.join(allowed)}")


def _check_values(parameters: dict[str, Any], study: str, verb: str) -> None:
    """Refuse settings of a value that is not in the grid: dvc.yaml may name its stages after them."""
    for axis, values in parameters[study][verb]["grid"].items():
        for value in parameters[study][verb][axis]:
            if value not in values:
                key = f"{study}.{verb}.{axis}.{value}"
                raise _error(key, "is not in the grid, and DVC may make it all the same", "add it there, or remove it")


@dataclass(frozen=True)
class _References:
    """What the settings of one cell refer to."""

    parameters: dict[str, Any]
    partitions: Mapping[str, PartitionSettings]
    cell: Cell[Settings]

    @property
    def settings(self) -> dict[str, Any]:
        return self.cell.settings.model_dump()

    def check(self) -> None:
        sections = (("dataset", "datasets"), ("model", "models"), ("partition", "partitions"))
        named = [(name, section, self.settings.get(name)) for name, section in sections]
        if isinstance(score := self.cell.settings, ScoreSettings):
            named += [(f"measures.{kind}.dataset", "datasets", dataset) for kind, dataset in score.data().items()]
        for name, section, value in named:
            if value is not None and value not in self.parameters[section]:
                known = ", ".join(self.parameters[section])
                raise InputError(self.cell.key(name), f"{section} has no `{value}`", f"it has: {known}")
        for name, mark in references(type(self.cell.settings)).items():
            if (named := getattr(self.cell.settings, name)) is not None:
                self._check_named(name, named, mark)
        if isinstance(score, ScoreSettings) and (sensitivity := score.measures.sensitivity):
            for name, cell in sensitivity.status.items():
                self._check_named(f"measures.sensitivity.status.{name}", cell, Refers(None))
            self._check_association(sensitivity.association)
        if VERBS[self.cell.place.verb].trained:
            self._check_training()
        match self.cell.place.verb:
            case "extract":
                self._check_secret(self.settings["target"])
            case "invert":
                self._check_target(self.settings["target"])
        self._check_kind()
        self._check_splits()
        self._check_columns()
        if partition := self.settings.get("partition"):
            self._check_partition(partition, self.partitions[partition])
            if self.cell.place.verb in ("attack", "shadow"):
                self._check_members(partition)

    def _check_kind(self) -> None:
        """Refuse another model where a classifier is needed, and where any is one of which nothing is trained."""
        place, name = self.cell.place, self.settings.get("model")
        if VERBS[place.verb].any_model:
            if name:
                training = self.cell.settings
                read_fitted_model(self.parameters, name, not isinstance(training, TrainSettings) or training.trains)
        elif name:
            if not (model := read_any_model(self.parameters, name)).classifies:
                raise InputError(self.cell.key("model"), f"`{name}` is {model.called}", FOR_OTHER_MODELS)
        elif fitted := self._fitted():
            name = fitted["model"]
            model = read_any_model(self.parameters, name)
            if isinstance(self.cell.settings, ScoreSettings):
                with self.cell.naming():
                    self.cell.settings.check(place.cell, model)
            elif not model.classifies:
                problem = f"`{place.cell}` trains `{name}`, which is {model.called}"
                raise _error(f"{place.study}.{place.verb}.grid", problem, FOR_OTHER_MODELS)

    def _fitted(self) -> dict[str, Any] | None:
        """Return the settings of the cell of this name that fits a model, if there is one."""
        study, cell = self.cell.place.study, self.cell.place.cell
        verb = next((verb for verb in FITTING if cell in self._cells(verb)), None)
        return (
            None if verb is None else read_cell(self.parameters, study, verb, cell, SCHEMAS[verb]).settings.model_dump()
        )

    def _check_members(self, partition: str) -> None:
        """Refuse the members of a partition that deals others than those the models saw."""
        theirs = (self._fitted() or {}).get("partition")
        if theirs is None or theirs not in self.partitions:
            return
        ours, other = self.partitions[partition], self.partitions[theirs]
        # A seed deals the same halves under every scheme.
        if (ours.dataset, ours.membership) != (other.dataset, other.membership):
            problem = f"`{partition}` deals other members than `{theirs}`, by which the cell's models are trained"
            raise InputError(self.cell.key("partition"), problem, f"name {theirs}, or give both the same `membership`")

    def _check_splits(self) -> None:
        """Refuse data that have no such split as the cell reads."""
        cell: Cell[Any] = self.cell
        if (dataset := self.settings.get("dataset")) is None:
            return
        data = dataset_settings(self.parameters, dataset)
        for split in SPLITS:
            absent = split not in (*data.files.given(), *data.splits.given())
            if absent and prepared_path(dataset, split) in cell.settings.inputs():
                problem = f"`{dataset}` has no split `{split}`, and {cell.place.verb} reads it"
                raise InputError(cell.key("dataset"), problem, f"name data that have, or give datasets.{dataset}.files")

    def _check_columns(self) -> None:
        """Refuse a model, or a measurement, of what the data have not."""
        name, dataset = self.settings.get("model"), self.settings.get("dataset")
        if isinstance(score := self.cell.settings, ScoreSettings):
            for kind, data in score.data().items():
                there = dataset_settings(self.parameters, data).prepared_columns()
                if (missing := score.measures.given()[kind].lacks(there)) is not None:
                    problem = f"`{kind}` reads `{missing}`, and `{data}` has none"
                    remedy = f"name data that have, or declare it in datasets.{data}.columns"
                    raise InputError(self.cell.key(f"measures.{kind}.dataset"), problem, remedy)
        if name is None or dataset is None or (reads := read_any_model(self.parameters, name).reads) is None:
            return
        what, columns = reads
        if not getattr(dataset_settings(self.parameters, dataset).columns, columns[0]):
            problem = f"`{name}` {what}, and `{dataset}` has none"
            remedy = f"declare {' and '.join(f'`{column}`' for column in columns)} in datasets.{dataset}.columns"
            raise InputError(self.cell.key("model"), problem, remedy)

    def _check_named(self, setting: str, named: str, mark: Refers) -> None:
        """Refuse another cell that is not there, or whose models have not all seeds of this one."""
        study = self.cell.place.study
        if mark.verb is None:
            problem, owner = f"no fitted cell is `{named}`", named
            known = {
                f"{other}/{cell}": (other, verb, cell)
                for other in studies(self.parameters)
                for verb in FITTING
                if verb in self.parameters[other]
                for cell in cells(self.parameters, other, verb)
            }
        else:
            problem, owner = f"`{named}` is no cell of {study}.{mark.verb}", f"{study}.{mark.verb}, cell {named}"
            known = {cell: (study, mark.verb, cell) for cell in self._cells(mark.verb)}
        if named not in known:
            raise InputError(self.cell.key(setting), problem, f"there are: {', '.join(known) or 'none'}")
        if mark.folder == "models":
            study, verb, cell = known[named]
            seeds = read_cell(self.parameters, study, verb, cell, SCHEMAS[verb]).settings.model_dump()["seeds"]
            self._check_seeds(seeds, owner)

    def _check_training(self) -> None:
        study, name, trained = self.cell.place.study, self.cell.place.cell, self._cells("train")
        if name not in trained:
            raise _error(
                f"{study}.{self.cell.place.verb}.grid",
                f"`{name}` is no cell of {study}.train",
                f"there are: {', '.join(trained)}",
            )
        if isinstance(self.cell.settings, ShadowSettings):
            with self.cell.naming():
                self.cell.settings.check(self._training(name))

    def _check_secret(self, target: str) -> None:
        if not self._training(target).secret:
            hiding = ", ".join(name for name in self._cells("train") if self._training(name).secret) or "none"
            problem = f"`{target}` is trained without a `secret`"
            raise InputError(self.cell.key("target"), problem, f"those with one: {hiding}")

    def _training(self, name: str) -> TrainSettings:
        return read_cell(self.parameters, self.cell.place.study, "train", name, TrainSettings).settings

    def _check_association(self, named: str | None) -> None:
        planted = (self._fitted() or {}).get("associations") or {}
        if named is not None and named not in planted:
            problem = f"`{self.cell.place.cell}` is trained without an association `{named}`"
            remedy = f"there are: {', '.join(planted) or 'none'}"
            raise InputError(self.cell.key("measures.sensitivity.association"), problem, remedy)

    def _check_target(self, target: str) -> None:
        training = self._training(target)
        model = read_any_model(self.parameters, training.model)
        if not model.trains_embeddings:
            what = "whose token embeddings are frozen" if model.classifies else model.called
            raise InputError(
                self.cell.key("target"),
                f"`{target}` is trained with `{training.model}`, {what}",
                "an update has their gradient with an encoder of `trained_embeddings: true`",
            )

    def _cells(self, verb: str) -> list[str]:
        study = self.cell.place.study
        return list(cells(self.parameters, study, verb)) if verb in self.parameters[study] else []

    def _check_seeds(self, allowed: list[int], owner: str) -> None:
        if missing := sorted(set(self.settings.get("seeds", [])) - set(allowed)):
            raise InputError(
                self.cell.key("seeds"),
                f"{missing} are not among the seeds of {owner}",
                f"allowed: {allowed}; or add them",
            )

    def _check_partition(self, name: str, partition: PartitionSettings) -> None:
        if partition.dataset != self.settings["dataset"]:
            ours = self.settings["dataset"]
            raise InputError(
                self.cell.key("partition"), f"`{name}` deals `{partition.dataset}`", f"name one that deals `{ours}`"
            )
        self._check_seeds(partition.seeds, f"partitions.{name}")
        split = self.settings.get("train_on", "member")
        if split != "train" and partition.membership is None:
            raise InputError(
                self.cell.key("train_on" if "train_on" in self.settings else "partition"),
                f"`{split}` is a part of a partition with `membership`, and `{name}` has none",
                f"give partitions.{name} membership, or name a partition that has it",
            )


def _mapping(parameters: dict[str, Any], key: str) -> dict[str, Any]:
    value = block(parameters, key)
    if not isinstance(value, dict):
        raise _error(key, f"{value!r} is not allowed", "must be a mapping")
    return value


def _error(key: str, problem: str, remedy: str) -> InputError:
    return InputError(f"{PARAMETERS}: {key}", problem, remedy)
