"""Sentences to compare, in invented words, and the networks that compare them."""

import numpy as np
import pandas as pd
import pytest

from tests.stages.conftest import WORDS


@pytest.fixture(scope="session")
def compared():
    """Return a prepared table of 24 items of three terms, whose sentences begin alike and end apart."""
    draws = np.random.default_rng(0)

    def words(most):
        return " ".join(WORDS[word] for word in draws.integers(len(WORDS), size=draws.integers(1, most + 1)))

    rows = []
    for number in range(24):
        begun = words(4)
        sentences = {name: f"{begun} {words(3)}" for name in ("stereotype", "antistereotype", "unrelated")}
        rows.append(
            {
                "example_id": f"i{number}",
                "text": words(5),
                "label": ("gender", "race")[number % 2],
                **sentences,
                "term": ("ash", "birch", "cedar")[number % 3],
                "task": ("intrasentence", "intersentence")[number // 2 % 2],
                "direction": ("stereo", "antistereo")[number // 4 % 2],
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture(params=["bytes", "pretrained"])
def any_model(request, byte_settings, language_settings):
    """Settings of a network over bytes, and of a pretrained one as it is."""
    if request.param == "bytes":
        return byte_settings.model_copy(update={"max_length": 64})
    return language_settings(adapters=None)
