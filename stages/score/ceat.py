"""CEAT of a language model's vectors of words in real texts; the mathematics is in stages/score/association.py."""

from dataclasses import dataclass

import pandas as pd

from stages.common.measurements import Measurement
from stages.common.streams import generator
from stages.models.examples import read_split
from stages.score.association import ceat
from stages.score.settings import CeatSettings
from stages.score.states import place_of, vectors_in_contexts
from stages.score.stimuli import Tests, read_tests, tested, words_table
from stages.score.tokens import AnyLanguageModel


@dataclass(frozen=True)
class Contexts:
    """The words of every test, and of each word the texts in which it stands."""

    tests: Tests
    texts: dict[str, list[str]]


def read(dataset: str, settings: CeatSettings) -> Contexts:
    """Return the words of every test and, of the training texts, those in which each stands.

    Raises:
        InputError: The data cannot be read, or the package of the published words is not there.
    """
    tests = read_tests(settings.tests)
    texts = list(read_split(dataset, "train")["text"])
    low = [text.lower() for text in texts]
    found = {}
    for word in dict.fromkeys(word for stimuli in tests.values() for word in stimuli.words()):
        # Most texts are told apart by the quicker question.
        holding = [text for text, small in zip(texts, low, strict=True) if word.lower() in small]
        found[word] = [text for text in holding if place_of(word, text) is not None]
    return Contexts(tests, found)


def measure(
    model: AnyLanguageModel, contexts: Contexts, settings: CeatSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return every word with how many contexts it has and how many are read, and what came of every test.

    Raises:
        SettingError: Too few words of a test have a context.
    """
    vectors = {}
    for word, texts in contexts.texts.items():
        some = texts
        if len(texts) > settings.contexts:
            # By the word, so that a further word does not change what is drawn of another.
            rows = generator(seed, f"contexts of {word}").choice(len(texts), settings.contexts, replace=False)
            some = [texts[row] for row in sorted(rows)]
        vectors[word] = vectors_in_contexts(model, word, some)
    tables: list[pd.DataFrame] = []
    measured: dict[str, Measurement] = {}
    for name, stimuli in contexts.tests.items():
        with tested("ceat", name):
            found = ceat(stimuli, vectors, settings, seed)
        table = words_table(name, stimuli)
        table["contexts"] = table["word"].map({word: len(texts) for word, texts in contexts.texts.items()})
        table["read"] = table["word"].map({word: len(rows) for word, rows in vectors.items()})
        tables.append(table)
        measured |= {
            f"test/ceat_effect_size/{name}": found.effect_size,
            f"test/ceat_p_value/{name}": Measurement(found.p_value),
            f"test/ceat_words_left_out/{name}": Measurement(float(sum(map(len, found.missing.values())))),
            f"test/ceat_contexts/{name}": Measurement(float(table["read"].sum())),
        }
    return pd.concat(tables, ignore_index=True).assign(seed=seed), measured
