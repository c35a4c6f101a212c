"""Invert the updates of one cell's clients and write what came of it."""

from dataclasses import asdict, replace

import pandas as pd

from stages.common import artifacts, measurements
from stages.common.cells import Cell, Place
from stages.invert.guarantee import guarantee
from stages.invert.reconstruction import Reconstruction, measure, reconstruct
from stages.invert.settings import InvertSettings
from stages.measuring.seeds import measure_seeds
from stages.models.examples import read_split
from stages.models.fitted import about_measuring, load_fitted


def invert_cell(cell: Cell[InvertSettings]) -> None:
    """Reconstruct the texts of all seeds of a cell; write every reconstruction and the metrics."""
    settings, place = cell.settings, cell.place
    attacked = about_measuring(replace(place, cell=settings.target), settings.dataset, settings.inputs())
    private = read_split(settings.dataset, settings.split)
    # The accountant knows an epsilon by where `train` has it.
    with cell.naming(without="privacy."):
        guaranteed = guarantee(settings)
        noise_multiplier = guaranteed.noise_multiplier
        found = measure_seeds(_reconstruct, dict.fromkeys(settings.seeds, private), place, settings, noise_multiplier)
    about = replace(
        attacked,
        cell=place.cell,
        role=settings.role,
        command=place.command,
        mechanism="gaussian" if noise_multiplier else "none",
    )
    rows = [asdict(text) for texts in found.values() for text in texts]
    with artifacts.atomic_folder(place.data(settings.folder)) as folder:
        artifacts.write_table(folder / "reconstructions.parquet", pd.DataFrame(rows))
        artifacts.write_json(folder / "privacy.json", guaranteed.statement)
    measured = {seed: measure(texts) | guaranteed.measured for seed, texts in found.items()}
    measurements.write(place.metrics, about, measured)


def _reconstruct(
    seed: int, private: pd.DataFrame, place: Place, settings: InvertSettings, noise_multiplier: float
) -> list[Reconstruction]:
    fitted = load_fitted(place.study, settings.target, seed)
    return reconstruct(fitted, fitted.examples(private), settings, seed, noise_multiplier)
