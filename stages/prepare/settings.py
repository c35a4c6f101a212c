"""Settings of a data set: one entry of the block `datasets` in params.yaml.

To bring your own, add an entry:

    mine:
      source: file                # or package (a file inside an installed package), or hub
      watch: texts                # DVC looks here for changes: the file, or a folder that holds all files
      format: csv                 # csv, tsv, jsonl, parquet, slots (word:TAG ... <=> label), orange (.tab), bbq,
                                  # bbq_bias, stereoset or crows_pairs
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
    "author",
    "time",
)

# Those whose values are one text each, and no part of what answers stand in.
Plain = Literal["label", "target", "group", "author", "time"]
Format = Literal[
    "csv", "tsv", "jsonl", "parquet", "slots", "orange", "bbq", "bbq_bias", "stereoset", "crows_pairs", "bold"
]
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
    """The source's columns by the role they play; tokens and tags are lists, or texts split at white space.

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
    author: Name | None = None
    time: Name | None = None

    def declared(self) -> dict[str, str]:
        """Return role -> column of the source, in the order of `ROLES`."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

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
    """

    watch: Name
    files: Files[Any]
    columns: Columns
    patterns: dict[Plain, Annotated[str, AfterValidator(_one_group)]] = Field({})
    following: list[Name] = Field([])
    headed_by: Literal["author", "group", "time"] | None = None
    labels: Annotated[dict[str, str], Field(min_length=1)] | None = None
    splits: Fractions = Fractions()
    seed: Annotated[int, Field(ge=0)]
    limit: Limits = Limits()
    when_missing: OnProblem = "error"
    when_unseen: OnUnseen = "error"
    licence: Name

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


class DatasetOfFiles(Dataset):
    """What `package` and `file` share: files that this stage reads itself.

    Attributes:
        metadata: Of `format: bbq_bias`, the path of its `additional_metadata.csv`.
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
    def _metadata_are_of_bbq(self) -> Self:
        if (self.format == "bbq_bias") != bool(self.metadata):
            raise ValueError("`metadata` and `format: bbq_bias` belong together: give both or neither")
        return self

    @model_validator(mode="after")
    def _one_meaning_of_group(self) -> Self:
        groups = [file.group for files in self.files.given().values() for file in files]
        if any(groups) and not all(groups):
            raise ValueError("give `group` to every file or to none")
        if any(groups) and self.columns.group:
            raise ValueError("`group` is given by `files` and by `columns`: keep one")
        return self


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
