"""Settings of a data set: one entry of the block `datasets` in params.yaml.

To bring your own, add an entry:

    mine:
      source: file                # or package (a file inside an installed package), or hub
      watch: texts                # DVC looks here for changes: the file, or a folder that holds all files
      format: csv                 # csv, tsv, jsonl, parquet, slots (word:TAG ... <=> label), orange (.tab), bbq,
                                  # bbq_bias, stereoset, crows_pairs, bold or hatexplain
      files: {train: [{path: texts/mine.csv}]}
      columns: {text: comment, label: topic}
      splits: {valid: 0.1, test: 0.2}
      seed: 0
      licence: my own

or, from the Hugging Face hub or a local folder laid out like one of its repositories:

    theirs:
      source: hub
      watch: requirements/lock.txt # a local folder watches itself
      repository: fancyzhx/ag_news # or the path of a local folder, which has no revision
      revision: <the commit's 40 hex digits>
      files: {train: train, test: test} # our split: its split, with a slice if you like, as in train[:10%]
      columns: {text: text, label: label}
      splits: {valid: 0.1}
      seed: 0
      licence: none stated
"""

import codecs
import re
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Settings, block, parse

SPLITS = ("train", "valid", "test")
# What a column can mean, in the order of the prepared tables.
ROLES = (
    "text",
    "label",
    "tokens",
    "tags",
    "question",
    "answers",
    "target",
    "stereotype",
    "antistereotype",
    "unrelated",
    "unknown",
    "term",
    "template",
    "task",
    "direction",
    "group",
    "groups",
    "author",
    "time",
)

# Those whose values are one text each, and no part of what answers stand in.
Plain = Literal["label", "target", "group", "author", "time"]
Format = Literal[
    "csv",
    "tsv",
    "jsonl",
    "parquet",
    "slots",
    "orange",
    "bbq",
    "bbq_bias",
    "stereoset",
    "crows_pairs",
    "bold",
    "hatexplain",
]
# Formats of which a second file says more of the rows.
METADATA = {"bbq_bias": "additional_metadata.csv", "hatexplain": "post_id_divisions.json"}
OnProblem = Literal["error", "drop"]
OnUnseen = Literal["error", "drop", "keep"]
Name = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Item = TypeVar("Item")


class File(Settings):
    """One source file; `group` marks all its rows with the column `group`."""

    path: Name
    group: Name | None = None


class Files(Settings, Generic[Item]):
    """Where each split comes from; one that is absent is drawn from train, or is in no table if there is no train."""

    train: Item | None = None
    valid: Item | None = None
    test: Item | None = None

    def given(self) -> dict[str, Item]:
        """Return the splits that the source has, in the order of `SPLITS`."""
        return {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}


FileLists = Files[Annotated[list[File], Field(min_length=1)]]


class Columns(Settings):
    """The source's columns by the role they play; lists are lists there, or texts split at white space.

    Attributes:
        question: Asked of the text, which its `answers` stand in: each a text, a list of texts, or SQuAD's
            {text: [...], answer_start: [...]}. The first is trained on; any of them is right.
        target: What a model is to write when it has read the text.
        stereotype: Of sentences that are compared with each other, the stereotypical one.
        antistereotype: The one that says the opposite, or the same of another group.
        unrelated: The one that makes no sense.
        unknown: Of answers that are compared, the one that leaves the question open.
        term: Who or what the sentences are about, such as a profession.
        template: What several of the items were made from.
        task: What a model is to do with the sentences, where that differs from item to item.
        direction: Which of two sentences is about the disadvantaged group.
        group: Which one a text is about.
        groups: Those that a text names, none, one or several: a column of lists, or a column for each group, of its
            name, with the share of annotators who find that the text names it (see `shares`).
    """

    text: Name
    label: Name
    tokens: Name | None = None
    tags: Name | None = None
    question: Name | None = None
    answers: Name | None = None
    target: Name | None = None
    stereotype: Name | None = None
    antistereotype: Name | None = None
    unrelated: Name | None = None
    unknown: Name | None = None
    term: Name | None = None
    template: Name | None = None
    task: Name | None = None
    direction: Name | None = None
    group: Name | None = None
    groups: Name | Annotated[list[Name], Field(min_length=1)] | None = None
    author: Name | None = None
    time: Name | None = None

    def declared(self) -> dict[str, str | list[str]]:
        """Return role -> column of the source, or columns of groups, in the order of `ROLES`."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

    def of_source(self) -> list[str]:
        """Return the columns of the source that are read, each once."""
        declared = self.declared().values()
        return list(
            dict.fromkeys(name for names in declared for name in ([names] if isinstance(names, str) else names))
        )

    @model_validator(mode="after")
    def _tags_have_tokens(self) -> Self:
        if self.tags and not self.tokens:
            raise ValueError("`tags` belong to `tokens`: declare both")
        return self

    @model_validator(mode="after")
    def _questions_have_answers(self) -> Self:
        if bool(self.question) != bool(self.answers):
            raise ValueError("`question` and `answers` belong together: declare both")
        return self

    @model_validator(mode="after")
    def _sentences_are_compared(self) -> Self:
        if bool(self.stereotype) != bool(self.antistereotype):
            raise ValueError("`stereotype` and `antistereotype` belong together: declare both")
        return self


class Fractions(Settings):
    """The parts of train that become valid and test, for a source that lacks them."""

    valid: Fraction | None = None
    test: Fraction | None = None

    def given(self) -> dict[str, float]:
        """Return the splits to draw, in the order of `SPLITS`."""
        return {split: getattr(self, split) for split in ("valid", "test") if getattr(self, split) is not None}


class Shares(Settings):
    """Of labels and groups that are shares of annotators, numbers from 0 to 1: what they come to.

    Attributes:
        at_least: The share from which on a text has the label `label`, or names a group.
        label: The label from there on.
        other: The label below.
    """

    at_least: Annotated[float, Field(gt=0, le=1)]
    label: Name
    other: Name


class Limits(Settings):
    """The rows to keep of each split; None keeps all."""

    train: Count | None = None
    valid: Count | None = None
    test: Count | None = None


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} has {groups} groups, and one is to be kept: (...); (?:...) is none")
    return pattern


class Dataset(Settings):
    """What every data set says, whatever its source.

    Attributes:
        patterns: Role -> regular expression: of its values only what the group finds is kept, and a value without a
            match is missing.
        following: Roles whose value is that of the next row of the same file, if that row has the same `time`; it is
            missing in a row without such a next one.
        headed_by: Role whose value is put before the text, with a colon: who speaks.
        labels: Value in the source -> label; other rows are missing.
        group_names: Value in the source -> group, of the column `group`; other rows are missing.
        shares: The label is a share of annotators, and so are groups with a column each.
    """

    watch: Name
    files: Files[Any]
    columns: Columns
    patterns: dict[Plain, Annotated[str, AfterValidator(_one_group)]] = Field({})
    following: list[Name] = Field([])
    headed_by: Literal["author", "group", "time"] | None = None
    labels: Annotated[dict[str, str], Field(min_length=1)] | None = None
    group_names: Annotated[dict[str, Name], Field(min_length=1)] | None = None
    shares: Shares | None = None
    splits: Fractions = Fractions()
    seed: Annotated[int, Field(ge=0)]
    limit: Limits = Limits()
    when_missing: OnProblem = "error"
    when_unseen: OnUnseen = "error"
    licence: Name

    def prepared_columns(self) -> set[str]:
        """Return the roles that the prepared tables have."""
        return set(self.columns.declared())

    @model_validator(mode="after")
    def _every_split_has_one_origin(self) -> Self:
        given, drawn = self.files.given(), self.splits.given()
        if not given:
            raise ValueError("`files` names none: give those of train, or of test for data that only measure")
        if "train" not in given:
            if drawn:
                raise ValueError(
                    f"`splits` draws `{next(iter(drawn))}` from train, of which `files` has none: keep one"
                )
            return self
        for split in SPLITS:
            if split in given and split in drawn:
                raise ValueError(f"`{split}` stands in both `files` and `splits`: keep one")
            if split not in given and split not in drawn:
                raise ValueError(f"`{split}` stands in neither `files` nor `splits`: give its files or a fraction")
        if sum(drawn.values()) >= 1:
            raise ValueError("`splits` leave nothing of train: their sum must be below 1")
        return self

    @model_validator(mode="after")
    def _patterns_are_of_columns(self) -> Self:
        if other := [role for role in self.patterns if role not in self.columns.declared()]:
            raise ValueError(f"`patterns` has {other[0]}, of which `columns` names none")
        return self

    @model_validator(mode="after")
    def _what_follows_is_of_columns(self) -> Self:
        declared = self.columns.declared()
        if other := [role for role in self.following if role not in declared]:
            raise ValueError(f"`following` has {other[0]}, and `columns` names {', '.join(declared)}")
        return self

    @model_validator(mode="after")
    def _what_heads_the_text_is_of_columns(self) -> Self:
        head, declared = self.headed_by, self.columns.declared()
        if head is not None and head not in declared:
            raise ValueError(f"`headed_by` has {head}, and `columns` names {', '.join(declared)}")
        if head is not None and (self.columns.tokens or self.columns.answers):
            raise ValueError("`headed_by` would move the words that `tokens` or `answers` tell of: leave it out")
        return self

    @model_validator(mode="after")
    def _shares_are_said_what_they_come_to(self) -> Self:
        groups = self.columns.groups
        if isinstance(groups, list) and self.shares is None:
            raise ValueError("`groups` with a column each are shares: give `shares`, or name one column of lists")
        if isinstance(groups, list) and len(set(groups)) < len(groups):
            raise ValueError("`groups` names a column twice: name each once")
        if self.shares is not None and self.labels is not None:
            raise ValueError("`labels` and `shares` both give labels: keep one")
        if self.group_names is not None and self.columns.group is None:
            raise ValueError("`group_names` are of the column `group`, of which `columns` names none")
        return self


class DatasetOfFiles(Dataset):
    """What `package` and `file` share: files that this stage reads itself.

    Attributes:
        metadata: Of `format: bbq_bias`, the path of its `additional_metadata.csv`; of `hatexplain`, that of its
            `post_id_divisions.json`.
    """

    format: Format
    encoding: str = "utf-8"
    files: FileLists
    metadata: Name | None = None

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ValueError("no such encoding; known are utf-8, latin-1, cp1252, utf-16 and Python's others") from None
        return encoding

    @model_validator(mode="after")
    def _metadata_are_of_some_formats(self) -> Self:
        if self.metadata is None and self.format in METADATA:
            raise ValueError(f"`format: {self.format}` needs `metadata`, the path of its {METADATA[self.format]}")
        if self.metadata is not None and self.format not in METADATA:
            raise ValueError(f"`metadata` are of `format` {' and '.join(METADATA)}: leave it out")
        return self

    @model_validator(mode="after")
    def _one_meaning_of_group(self) -> Self:
        groups = [file.group for files in self.files.given().values() for file in files]
        if any(groups) and not all(groups):
            raise ValueError("give `group` to every file or to none")
        if any(groups) and self.columns.group:
            raise ValueError("`group` is given by `files` and by `columns`: keep one")
        return self

    def prepared_columns(self) -> set[str]:
        """See the base: `files` may say of which group all rows of a file are."""
        files = [file for files in self.files.given().values() for file in files]
        return super().prepared_columns() | ({"group"} if any(file.group for file in files) else set())


class PackageDataset(DatasetOfFiles):
    """Files inside an installed Python package, which is never imported; paths as in its RECORD."""

    source: Literal["package"]
    package: Name


class FileDataset(DatasetOfFiles):
    """Your own files; paths are absolute or relative to the root of the project."""

    source: Literal["file"]

    @model_validator(mode="after")
    def _watch_holds_all(self) -> Self:
        paths = [file.path for files in self.files.given().values() for file in files]
        for path in (*paths, *filter(None, [self.metadata])):
            if not Path(path).absolute().is_relative_to(Path(self.watch).absolute()):
                raise ValueError(f"`watch` must be {path} or a folder that holds it, else changes go unseen")
        return self


class HubDataset(Dataset):
    """A repository of the Hugging Face hub, or a local folder laid out like one."""

    source: Literal["hub"]
    repository: Name
    revision: Name | None = None
    configuration: Name | None = None
    files: Files[Name]

    @property
    def is_local(self) -> bool:
        """Whether `repository` is a folder here."""
        return Path(self.repository).is_dir()

    @model_validator(mode="after")
    def _revision_is_pinned(self) -> Self:
        if self.is_local:
            if self.revision:
                raise ValueError("a local folder has no `revision`: remove it")
            if not Path(self.repository).absolute().is_relative_to(Path(self.watch).absolute()):
                raise ValueError(f"`watch` must be {self.repository} or a folder that holds it, else changes go unseen")
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise ValueError("`repository` is neither a folder here nor a hub id, owner/name")
        elif not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("a hub id needs `revision`, a commit's 40 hex digits: branches and tags move")
        return self


DatasetSettings = Annotated[PackageDataset | FileDataset | HubDataset, Field(discriminator="source")]
_SCHEMAS: dict[str, type[PackageDataset | FileDataset | HubDataset]] = {
    "package": PackageDataset,
    "file": FileDataset,
    "hub": HubDataset,
}


def dataset_settings(parameters: dict[str, Any], name: str) -> DatasetSettings:
    """Return the validated settings of one data set; InputError if it is unknown or wrong."""
    datasets = block(parameters, "datasets")
    where = f"{PARAMETERS}: datasets"
    if not isinstance(datasets, dict) or name not in datasets:
        names = ", ".join(map(str, datasets)) if isinstance(datasets, dict) else "nothing"
        raise InputError(where, f"has no `{name}`", f"it has: {names}")
    value = datasets[name]
    if not isinstance(value, dict):
        raise InputError(f"{where}.{name}", f"{value!r} is not allowed", "it must be a mapping of settings")
    # Chosen here and not by pydantic, so that a message lists the settings of this source alone.
    if value.get("source") not in _SCHEMAS:
        raise InputError(
            f"{where}.{name}.source", f"{value.get('source')!r} is not allowed", f"one of {', '.join(_SCHEMAS)}"
        )
    return parse(_SCHEMAS[value["source"]], value, f"datasets.{name}")
