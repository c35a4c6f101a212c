"""Invert the updates of one cell's clients and write what came of it."""

from dataclasses import asdict

import pandas as pd

from stages.common.cells import Cell, Place
from stages.invert.guarantee import guarantee
from stages.invert.reconstruction import Reconstruction, measure, reconstruct
from stages.invert.settings import InvertSettings
from stages.measuring.cell import Findings, measure_cell
from stages.models.examples import read_split
from stages.models.fitted import load_fitted


def invert_cell(cell: Cell[InvertSettings]) -> None:
    """Reconstruct the texts of all seeds of a cell; write every reconstruction and the metrics."""
    settings, place = cell.settings, cell.place
    private = read_split(settings.dataset, settings.split)
    # The accountant knows an epsilon by where `train` has it.
    with cell.naming(without="privacy."):
        guaranteed = guarantee(settings)
    noise_multiplier = guaranteed.noise_multiplier

    def conclude(found: dict[int, list[Reconstruction]]) -> Findings:
        table = pd.DataFrame([asdict(text) for texts in found.values() for text in texts])
        return Findings(
            {seed: measure(texts) | guaranteed.measured for seed, texts in found.items()},
            {"reconstructions.parquet": table, "privacy.json": guaranteed.statement},
        )

    measure_cell(
        cell,
        _reconstruct,
        dict.fromkeys(settings.seeds, private),
        place,
        settings,
        noise_multiplier,
        conclude=conclude,
        role=settings.role,
        mechanism="gaussian" if noise_multiplier else "none",
    )


def _reconstruct(
    seed: int, private: pd.DataFrame, place: Place, settings: InvertSettings, noise_multiplier: float
) -> list[Reconstruction]:
    fitted = load_fitted(place.study, settings.target, seed)
    return reconstruct(fitted, fitted.examples(private), settings, seed, noise_multiplier)
