"""WEAT of the vectors that a language model has for its tokens; the mathematics is in stages/score/association.py."""

import pandas as pd

from stages.common.measurements import Measurement
from stages.score.association import weat
from stages.score.settings import WeatSettings
from stages.score.states import word_vectors
from stages.score.stimuli import Tests, read_tests, tested, words_table
from stages.score.tokens import AnyLanguageModel


def read(dataset: str, settings: WeatSettings) -> Tests:
    """Return the words of every test; InputError if the package of the published ones is not there."""
    del dataset
    return read_tests(settings.tests)


def measure(
    model: AnyLanguageModel, tests: Tests, settings: WeatSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return every word with whether it has a vector, and effect size and p of every test.

    Raises:
        SettingError: Too few words of a test have a vector.
    """
    del settings
    tables: list[pd.DataFrame] = []
    measured: dict[str, Measurement] = {}
    for name, stimuli in tests.items():
        vectors, pieces = word_vectors(model, stimuli.words())
        with tested("weat", name):
            found = weat(stimuli, vectors, seed)
        measured |= {
            f"test/weat_effect_size/{name}": found.effect_size,
            f"test/weat_p_value/{name}": found.p_value,
            f"test/weat_words_left_out/{name}": Measurement(float(sum(map(len, found.missing.values())))),
        }
        table = words_table(name, stimuli)
        tables.append(table.assign(tokens=[pieces.get(word, 1) for word in table["word"]]))
    return pd.concat(tables, ignore_index=True).assign(seed=seed), measured
