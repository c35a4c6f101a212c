"""Measure the models of one cell and write what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.common.measurements import About, Measurement, Role
from stages.measuring.seeds import measure_seeds
from stages.measuring.settings import Measuring

Result = TypeVar("Result")


@dataclass(frozen=True)
class Findings:
    """What a cell's measurement came to.

    Args:
        metrics: Seed -> key -> measurement.
        files: Name -> a table, or what a .json or .html holds, in the cell's folder under data/.
        curves: Name -> a small series that a figure is drawn from.
    """

    metrics: Mapping[int, Mapping[str, Measurement]]
    files: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def measure_cell(
    cell: Cell[Measuring],
    work: Callable[..., Result],
    items: Mapping[int, Any],
    *shared: Any,
    conclude: Callable[[dict[int, Result]], Findings],
    role: Role | None = None,
    mechanism: str | None = None,
) -> None:
    """Measure all seeds of a cell, each in a process of its own, and write what they come to.

    Args:
        cell: Of the verb that measures.
        work: A function of a module; `work(seed, item, *shared)` measures the models of one seed.
        items: Seed -> what only this seed needs.
        shared: Passed to every call.
        conclude: Returns what the results of all seeds amount to.
        role: How tables name the cell's part; that of the models if None.
        mechanism: What protects what is measured; that of the models if None.

    Raises:
        InputError: There are no models, or something else that is read is missing, or a setting cannot be used.
    """
    # First: where something is missing, it is said before anything is measured.
    about = about_measuring(cell, role, mechanism)
    with cell.naming():
        results = measure_seeds(work, items, *shared)
    findings = conclude(results)
    if cell.settings.folder is not None:
        with artifacts.atomic_folder(cell.place.data(cell.settings.folder)) as folder:
            for name, content in findings.files.items():
                if name.endswith(".html"):
                    (folder / name).write_text(content, encoding="utf-8")
                    continue
                write = artifacts.write_json if name.endswith(".json") else artifacts.write_table
                write(folder / name, content)
    for name, series in findings.curves.items():
        artifacts.write_table(cell.place.curve(name), series)
    measurements.write(cell.place.metrics, about, findings.metrics)


def about_measuring(cell: Cell[Measuring], role: Role | None, mechanism: str | None) -> About:
    """Return what is said of a measurement: what is said of the models, and who measures them, on what.

    The models are those of `target`, if the settings name one. What is None is as the models have it.
    """
    settings, place, others = cell.settings, cell.place, cell.others
    models = others.pop("target", place.models)
    fitted = About(**artifacts.read_json(models / "about.json"))
    return replace(
        fitted,
        cell=place.cell,
        verb=place.verb,
        role=role or fitted.role,
        mechanism=mechanism or fitted.mechanism,
        command=place.command,
        dataset=settings.dataset,
        inputs_sha256=artifacts.sha256([models, *settings.inputs(), *others.values()]),
    )


def stated_guarantee(place: Place, seed: int) -> dict[str, Any]:
    """Return what is stated of the privacy of one seed's model; of a control, what would be if it were none."""
    content: dict[str, Any] = artifacts.read_json(place.models / str(seed) / "privacy.json")
    stated: dict[str, Any] = content.get("stated", content)
    return stated
