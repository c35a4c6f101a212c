"""The words of association tests as settings name them: a published test by its number, or lists of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pandas as pd

from stages.common.errors import InputError, SettingError
from stages.score.association import Stimuli
from stages.score.settings import StimuliSettings
from stages.score.word_lists import read_stimuli

Tests = Mapping[str, Stimuli]


def read_tests(tests: Mapping[str, StimuliSettings]) -> Tests:
    """Return name -> words of tests; InputError if the package of the published ones is not there."""
    return {
        name: Stimuli(*map(tuple, settings.given())) if settings.number is None else read_stimuli(settings.number)
        for name, settings in tests.items()
    }


@contextmanager
def tested(kind: str, name: str) -> Iterator[None]:
    """Name the test in an error about its words."""
    try:
        yield
    except InputError as error:
        raise SettingError(f"measures.{kind}.tests.{name}", f"{error.where}: {error.problem}", error.remedy) from None


def words_table(name: str, stimuli: Stimuli) -> pd.DataFrame:
    """Return a row for each word of a test: columns test, set, word."""
    rows = [(name, of, word) for of, words in stimuli.sets().items() for word in words]
    return pd.DataFrame(rows, columns=["test", "set", "word"])
