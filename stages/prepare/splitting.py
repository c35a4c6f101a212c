"""Draw splits that the source lacks, keep as many rows as asked, and see that train knows every label."""

import numpy as np
import pandas as pd

from stages.common.errors import InputError
from stages.prepare.settings import SPLITS

# Each draw has a random stream of its own, so that changing one leaves the others as they were.
_DRAW, *_LIMIT = range(1 + len(SPLITS))


def draw_splits(train: pd.DataFrame, fractions: dict[str, float], seed: int, where: str) -> dict[str, pd.DataFrame]:
    """Draw further splits from train, which keeps at least one text of each label.

    Args:
        train: Rows with `text` and `label`; those of one text stay together.
        fractions: Split -> its part of the rows of train.
        seed: Of the draw.
        where: What a message calls the data set.

    Returns:
        Train and the drawn splits, each in the order of the source.
    """
    texts = train.drop_duplicates("text")
    order = np.random.default_rng([seed, _DRAW]).permutation(len(texts))
    spare = order[texts["label"].iloc[order].duplicated().to_numpy()]
    sizes = {split: round(fraction * len(texts)) for split, fraction in fractions.items()}
    if sum(sizes.values()) > len(spare):
        raise InputError(
            where,
            f"{len(texts)} rows with {train['label'].nunique()} labels cannot give {sum(sizes.values())} to "
            f"{' and '.join(sizes)}, since train keeps one row of each label",
            "lower `splits`, or give more rows",
        )
    frames, start = {}, 0
    for split, size in sizes.items():
        frames[split] = train[train["text"].isin(texts["text"].iloc[spare[start : start + size]])]
        start += size
    return {"train": train[~train["text"].isin(texts["text"].iloc[spare[:start]])], **frames}


def limit_rows(rows: pd.DataFrame, split: str, limit: int | None, seed: int) -> pd.DataFrame:
    """Return at most `limit` rows in their order; a larger limit keeps them and adds others."""
    if limit is None or limit >= len(rows):
        return rows
    stream = _LIMIT[SPLITS.index(split)]
    order = np.random.default_rng([seed, stream]).permutation(len(rows))
    return rows.iloc[np.sort(order[:limit])]


def unseen_labels(rows: pd.DataFrame, train: pd.DataFrame) -> dict[str, int]:
    """Return label -> rows, for the labels that train lacks."""
    unseen = rows.loc[~rows["label"].isin(train["label"].unique()), "label"]
    return {str(label): int(count) for label, count in unseen.value_counts().items()}
