"""The `report` block of params.yaml, and which files the studies it lists leave behind.

Files are named from the grids, never globbed: cells of another profile may lie on disk.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from stages.common.errors import InputError
from stages.common.paths import CURVES, METRICS
from stages.common.settings import FITTING, PARAMETERS, Settings, block, cells, parse

VERBS = (*FITTING, "attack", "score")


class ReportSettings(Settings):
    """The studies on the page, in reading order."""

    studies: list[str] = Field(min_length=1)

    @field_validator("studies")
    @classmethod
    def _distinct(cls, studies: list[str]) -> list[str]:
        if len(set(studies)) < len(studies):
            raise ValueError("each study is listed once")
        return studies


@dataclass(frozen=True)
class Source:
    """One cell of one verb of a study; a partition is a cell of the verb `partition`."""

    study: str
    verb: str
    cell: str

    @property
    def metrics(self) -> Path:
        """The metrics file of this cell."""
        folder = "partitions" if self.verb == "partition" else self.study
        return METRICS / folder / self.cell / f"{self.verb}.json"

    @property
    def curve(self) -> Path | None:
        """The curve file that a figure is drawn from, for the verbs that have one."""
        match self.verb:
            case "partition":
                return CURVES / "partitions" / f"{self.cell}.csv"
            case "federate":
                return CURVES / self.study / self.cell / "history.csv"
            case "attack":
                return CURVES / self.study / self.cell / "roc.csv"
        return None


def studies(parameters: dict[str, Any]) -> list[str]:
    """Return the studies that params.yaml puts on the page."""
    return parse(ReportSettings, block(parameters, "report"), "report").studies


def profile(parameters: dict[str, Any]) -> str:
    """Return the name of the profile."""
    name = block(parameters, "profile")
    if not isinstance(name, str):
        raise InputError(f"{PARAMETERS}: profile", f"{name!r} is not allowed", "give the name of a profile")
    return name


def sources(parameters: dict[str, Any], study: str) -> list[Source]:
    """Return a study's cells in reading order: partitions, then each verb's grid.

    Raises:
        InputError: The study has no verb, trains a cell twice, or attacks or scores a cell it does not train.
    """
    section = block(parameters, study)
    verbs = [verb for verb in VERBS if isinstance(section, dict) and verb in section]
    if not verbs:
        raise InputError(f"{PARAMETERS}: {study}", "is no study", f"a study has one of: {', '.join(VERBS)}")
    found = [Source(study, verb, cell) for verb in verbs for cell in cells(parameters, study, verb)]
    _check_names(found)
    return [Source(study, "partition", name) for name in _partitions(section, verbs)] + found


def inputs(parameters: dict[str, Any]) -> list[Path]:
    """Return every file the report reads besides params.yaml, which is what its DVC stage depends on."""
    files = [file for study in studies(parameters) for s in sources(parameters, study) for file in (s.metrics, s.curve)]
    return sorted({file for file in files if file})


def _partitions(section: dict[str, Any], verbs: list[str]) -> list[str]:
    named = [section["partition"]] if section.get("partition") else []
    for verb in verbs:
        named += section[verb]["grid"].get("partition", [])
    return list(dict.fromkeys(named))


def _check_names(found: list[Source]) -> None:
    # A model has one place, study and cell; otherwise nobody could say whose epsilon stands beside the leakage.
    trained = Counter(source.cell for source in found if source.verb in FITTING)
    for source in found:
        where = f"{PARAMETERS}: {source.study}.{source.verb}.grid"
        if trained[source.cell] > 1:
            raise InputError(where, f"cell `{source.cell}` is trained more than once", "give each cell its own name")
        if not trained[source.cell]:
            raise InputError(where, f"no verb trains the cell `{source.cell}`", f"trained are: {', '.join(trained)}")
