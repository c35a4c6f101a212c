"""Read the texts or items that a kind measures on, with the columns that it needs."""

import pandas as pd

from stages.common.errors import SettingError
from stages.models.examples import read_split
from stages.score.settings import KindSettings


def read_items(dataset: str, settings: KindSettings) -> pd.DataFrame:
    """Return the test split of some data; SettingError if it lacks one of the columns that are measured."""
    items = read_split(dataset, "test")
    if (missing := settings.lacks(items.columns)) is not None:
        problem = f"{dataset} has no column `{missing}`, which is read"
        raise SettingError("dataset", problem, "name data that have, or declare it in their `columns`")
    return items
