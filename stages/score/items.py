"""Read the items of a benchmark, whose sentences a language model compares."""

import pandas as pd

from stages.common.cells import Cell
from stages.common.errors import InputError
from stages.models.examples import read_split
from stages.score.settings import ScoreSettings


def read_items(cell: Cell[ScoreSettings]) -> pd.DataFrame:
    """Return the test split of a cell's data; InputError if it lacks one of the columns that are measured."""
    dataset, measure = cell.settings.dataset, cell.settings.measure
    items = read_split(dataset, "test")
    if missing := [name for name in measure.roles if name not in items]:
        problem = f"{dataset} has no column `{missing[0]}`, which `{measure.kind}` reads"
        raise InputError(cell.key("dataset"), problem, "name data that have, or declare it in their `columns`")
    return items
