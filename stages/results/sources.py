"""Which cells a study has, and the files that they leave.

Files are named from the grids, never globbed: cells of another profile may lie on disk.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.common.cells import Place, cells
from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, block
from stages.results.verbs import FITTING, OF_STUDIES, VERBS

# What params.yaml has besides studies.
SHARED_BLOCKS = ("profile", "datasets", "partitions", "models", "report", "diff")


@dataclass(frozen=True)
class Source:
    """One cell of one verb of a study; a partition is a cell of the verb `partition`.

    `target` is the cell of `train` that it attacks, if it names one.
    """

    study: str
    verb: str
    cell: str
    target: str | None = field(default=None, compare=False)

    @property
    def place(self) -> Place:
        """Where its results are; partitions are shared by studies and have a place of their own."""
        return Place("partitions" if self.verb == "partition" else self.study, self.verb, self.cell)

    @property
    def metrics(self) -> Path:
        """The metrics file of this cell."""
        return self.place.metrics

    @property
    def curve(self) -> Path | None:
        """The file that a figure is drawn from, for the verbs that have one."""
        curve = VERBS[self.verb].curve
        return self.place.curve(curve.name) if curve else None


def studies(parameters: Mapping[str, Any]) -> list[str]:
    """Return the studies of params.yaml, in its order: all blocks that are not shared by studies."""
    return [key for key in parameters if key not in SHARED_BLOCKS]


def reported_studies(parameters: dict[str, Any]) -> list[str]:
    """Return the studies that are on the page: those with a cell in this profile."""
    return [study for study in studies(parameters) if sources(parameters, study)]


def sources(parameters: dict[str, Any], study: str) -> list[Source]:
    """Return a study's cells in reading order, partitions, then each verb's grid; nothing if its grids are empty.

    Raises:
        InputError: The study has no verb, trains a cell twice, attacks or scores a cell it does not train, or names
            after one a cell that is no measurement of it.
    """
    section = block(parameters, study)
    verbs = [verb for verb in OF_STUDIES if isinstance(section, dict) and verb in section]
    if not verbs:
        raise InputError(f"{PARAMETERS}: {study}", "is no study", f"a study has one of: {', '.join(OF_STUDIES)}")
    found = [
        Source(study, verb, cell, _target(section[verb], point) if VERBS[verb].targets else None)
        for verb in verbs
        for cell, point in cells(parameters, study, verb).items()
    ]
    _check_names(found)
    # A profile may leave a study out, whose partitions need not be there.
    dealt = _partitions(section, verbs) if found else []
    return [Source(study, "partition", name) for name in dealt] + found


def _target(grid: dict[str, Any], point: dict[str, str]) -> str | None:
    """Return what a cell's own values name; `base` names the one of all cells, which have names of their own."""
    said = [(grid.get(axis) or {}).get(value) or {} for axis, value in point.items()]
    return next((settings["target"] for settings in said if settings.get("target")), None)


def _partitions(section: dict[str, Any], verbs: list[str]) -> list[str]:
    named = [section["partition"]] if section.get("partition") else []
    for verb in verbs:
        grid = section[verb]["grid"]
        named += grid.get("partition", [])
        said = [section[verb].get("base") or {}]
        said += [(section[verb].get(axis) or {}).get(value) or {} for axis, values in grid.items() for value in values]
        named += [settings["partition"] for settings in said if settings.get("partition")]
    return list(dict.fromkeys(named))


def _check_names(found: list[Source]) -> None:
    # A model has one place, study and cell; otherwise nobody could say whose epsilon stands beside the leakage.
    trained = Counter(source.cell for source in found if source.verb in FITTING)
    for source in found:
        where = f"{PARAMETERS}: {source.study}.{source.verb}.grid"
        if trained[source.cell] > 1:
            raise InputError(where, f"cell `{source.cell}` is trained more than once", "give each cell its own name")
        if VERBS[source.verb].guarantees:
            if trained[source.cell]:
                raise InputError(where, f"`{source.cell}` is a cell that is trained", "give this one its own name")
        elif source.target and source.target != source.cell:
            if trained[source.cell]:
                problem = f"`{source.cell}` is a cell that is trained, and this one attacks `{source.target}`"
                raise InputError(where, problem, "give it its own name")
        elif not trained[source.cell]:
            raise InputError(where, f"no verb trains the cell `{source.cell}`", f"trained are: {', '.join(trained)}")
