"""Canaries: mislabelled examples of the reserve, each put into the training data by the throw of a coin.

What a model has of a wrong label it has from this one example, so canaries are what a guarantee is audited with: the
attack guesses the coins (Steinke et al. 2023, "Privacy Auditing with One (1) Training Run").
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.models.examples import Examples, Vocabulary, joined


def plant(
    train: Examples, pool: Examples, reserve: NDArray[np.int64], known: Vocabulary, count: int, seed: int
) -> tuple[Examples, pd.DataFrame]:
    """Return the training examples with the canaries whose coin said so, and all canaries.

    Args:
        train: What the model is trained on otherwise.
        pool: The whole training split.
        reserve: Rows of the pool that canaries are drawn from: neither members nor non-members.
        known: Labels of the data.
        count: How many canaries.
        seed: Of the draw, the wrong labels and the coins.

    Returns:
        Examples, and the canaries: columns example_id, label (the wrong one) and included.

    Raises:
        SettingError: The reserve is smaller, or the data have one label.
    """
    if count > len(reserve):
        raise SettingError("canaries", f"{count} of a reserve of {len(reserve)}", "give fewer, or a larger reserve")
    if len(known.labels) < 2:
        raise SettingError("canaries", "the data have one label, and none is wrong", "use other data")
    draws = generator(seed, "canaries")
    rows = np.sort(draws.choice(reserve, count, replace=False))
    labels = len(known.labels)
    wrong = (pool.labels[rows].numpy() + draws.integers(1, labels, size=count)) % labels
    included = draws.random(count) < 0.5
    chosen = pool[rows]
    canaries = Examples(chosen.example_ids, chosen.text, torch.from_numpy(wrong), chosen.tags, chosen.words)
    table = pd.DataFrame(
        {"example_id": chosen.example_ids, "label": [known.labels[label] for label in wrong], "included": included}
    )
    return joined(train, canaries[np.flatnonzero(included)]), table
