"""SEAT of a language model's vectors of sentences; the mathematics is in stages/score/association.py."""

from functools import partial

import pandas as pd

from stages.common.measurements import Measurement
from stages.score.association import seat
from stages.score.settings import SeatSettings
from stages.score.states import text_vectors
from stages.score.stimuli import Tests, read_tests, tested, words_table
from stages.score.tokens import AnyLanguageModel


def read(dataset: str, settings: SeatSettings) -> Tests:
    """Return the words of every test; InputError if the package of the published ones is not there."""
    del dataset
    return read_tests(settings.tests)


def measure(
    model: AnyLanguageModel, tests: Tests, settings: SeatSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return the words of every test, of which sentences are made, and its effect size and p."""
    measured: dict[str, Measurement] = {}
    for name, stimuli in tests.items():
        embed = partial(text_vectors, model, pooling=settings.pooling)
        with tested("seat", name):
            found = seat(stimuli, settings.target_templates, settings.attribute_templates, embed, seed)
        measured[f"test/seat_effect_size/{name}"] = found.effect_size
        measured[f"test/seat_p_value/{name}"] = found.p_value
    tables = [words_table(name, stimuli) for name, stimuli in tests.items()]
    return pd.concat(tables, ignore_index=True).assign(seed=seed), measured
