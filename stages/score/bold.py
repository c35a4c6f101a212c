"""BOLD: how male or female, and how friendly, is what a language model writes of professions, people and creeds?

Source: Dhamala et al. 2021, "BOLD". Its scorers of toxicity and regard are models: a study names its own, or does
without.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES
from stages.common.streams import generator
from stages.counterfactual.genders import GENDERED
from stages.models.encoders import word_vectors
from stages.score import scorers
from stages.score.generation import continuations
from stages.score.items import read_items
from stages.score.polarity import DEFINITIONAL_PAIRS, gender_of_words, gender_polarity, hard_debias, rates_by_group
from stages.score.sentiment import sentiment
from stages.score.settings import BoldSettings
from stages.score.tokens import AnyLanguageModel

# Column of the table -> what the metric of two sides that differ in it is called.
CONTRASTED = {
    "unigram": "unigram_gap",
    "gender_wavg": "gender_wavg_gap",
    "gender_max": "gender_max_gap",
    "sentiment": "sentiment_gap",
    "toxic": "toxicity_gap",
    "regard": "regard_gap",
}
UNIGRAM = {"female": 1.0, "neutral": 0.0, "male": -1.0}


@dataclass(frozen=True)
class Prompts:
    """Beginnings of texts by group, and the gender of words.

    Attributes:
        table: Columns example_id, text and group.
        groups: Those that are compared.
        gender: Word -> how female it is, from -1 to 1, of those that have a vector.
    """

    table: pd.DataFrame
    groups: list[str]
    gender: dict[str, float]


def read(dataset: str, settings: BoldSettings) -> Prompts:
    """Read what all seeds of a cell go on with.

    Raises:
        SettingError: A side of a contrast names a group that the data lack, or has too few prompts; or a scorer's model
            lacks a label.
        InputError: The data, the word vectors or a scorer cannot be read.
    """
    items = read_items(dataset, settings)
    table = items[["example_id", "text"]].assign(group=items["label"])
    sizes = table["group"].value_counts()
    for name, contrast in settings.contrasts.items():
        for side, groups in contrast.given().items():
            if unknown := [group for group in groups if group not in sizes]:
                problem = f"{dataset} has no group {unknown[0]!r}"
                raise SettingError(f"contrasts.{name}.{side}", problem, f"it has: {', '.join(sorted(sizes.index))}")
            if (n := int(sizes[groups].sum()) * settings.continuations) < settings.least:
                problem = f"{n} texts are written of it, and at least {settings.least} are due"
                raise SettingError(f"contrasts.{name}.{side}", problem, "name more groups, or take more prompts")
    for name in ("toxicity", "regard"):
        if (scorer := getattr(settings, name)) is not None:
            scorers.check(scorer, name)
    known = word_vectors(settings.vectors)
    try:
        debiased = hard_debias(known.words, known.table[1:].double().numpy(), GENDERED)
    except ValueError as error:
        remedy = f"give vectors of {', '.join(word for pair in DEFINITIONAL_PAIRS for word in pair)}"
        raise SettingError("vectors", str(error), remedy) from None
    return Prompts(table, sorted(sizes.index), gender_of_words(known.words, debiased))


def measure(
    model: AnyLanguageModel, prompts: Prompts, settings: BoldSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return every continuation with what it is found to be, and that by group and between sides of contrasts."""
    times = settings.continuations
    table = prompts.table.loc[prompts.table.index.repeat(times)].reset_index(drop=True)
    table["continuation"] = list(range(times)) * len(prompts.table)
    written = continuations(model, list(table["text"]), settings.tokens, settings.top_k, seed)
    texts = table[["example_id", "group"]].assign(text=written)
    polarity = gender_polarity(texts, prompts.gender, prompts.groups, settings.least, seed)
    friendly = sentiment(texts, prompts.groups, settings.least, seed)
    scores = polarity.examples.drop(columns=["example_id", "group"])
    table = table.rename(columns={"text": "prompt"}).assign(text=written, seed=seed).join(scores)
    table["sentiment"] = friendly.examples["sentiment"]
    table["unigram"] = table["unigram_polarity"].map(UNIGRAM)
    told = _told(settings, written)
    of_scorers = rates_by_group(texts, told, prompts.groups, settings.least, seed)
    table = table.assign(**told)
    if settings.regard is not None:
        table["regard"] = table["positive_regard"].astype(float) - table["negative_regard"]
    measured = polarity.measured | friendly.measured | of_scorers.measured
    measured["test/texts_written"] = Measurement(float(len(table)))
    measured["test/empty_texts"] = Measurement(float((table["text"] == "").sum()))
    for name, contrast in settings.contrasts.items():
        for column, metric in CONTRASTED.items():
            if column in table:
                measured[f"test/{metric}/{name}"] = _gap(table, column, contrast.given(), seed)
    return table.drop(columns="unigram"), measured


def _told(settings: BoldSettings, written: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return outcome -> (n,) which of the texts have it, of the scorers that there are."""
    outcomes = {}
    if settings.toxicity is not None:
        outcomes["toxic"] = np.logical_or.reduce(list(scorers.found(settings.toxicity, written).values()))
    if settings.regard is not None:
        told = scorers.found(settings.regard, written)
        outcomes["positive_regard"] = told[settings.regard.positive]
        outcomes["negative_regard"] = told[settings.regard.negative]
    return outcomes


def _gap(table: pd.DataFrame, column: str, sides: dict[str, list[str]], seed: int) -> Measurement:
    """Return the mean of a column on the first side less that on the second, with a bootstrap over either's prompts."""
    draws = generator(seed, "prompts of contrasts")
    values, replicates, n = [], [], 0
    for groups in sides.values():
        # A prompt with all that is written behind it is drawn whole.
        terms = table[table["group"].isin(groups)].groupby("example_id")[column].agg(["sum", "size"]).to_numpy()
        count = len(terms)
        times = draws.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_REPLICATES)
        total, drawn = terms.sum(axis=0), times @ terms
        values.append(total[0] / total[1])
        replicates.append(drawn[:, 0] / drawn[:, 1])
        n += count
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(replicates[0] - replicates[1], [tail, 100 - tail])
    return Measurement(float(values[0] - values[1]), n, float(low), float(high))
