"""Log probability bias score: how much likelier an attribute makes words of one group than words of another.

Source: Kurita et al. 2019, "Measuring Bias in Contextualized Word Representations", for masked language models. For
causal ones it is ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.measurements import CONFIDENCE, Measurement
from stages.common.statistics import BOOTSTRAP_REPLICATES
from stages.common.streams import generator
from stages.models.encoders import padded_ids
from stages.models.language import LanguageModel
from stages.models.masked import MaskedLanguageModel
from stages.score.settings import ATTRIBUTE, TARGET, LogProbabilityBiasSettings, LogProbabilityBiasTest
from stages.score.tokens import AnyLanguageModel, check_length, unknown_tokens, whole_tokenizer

NAME = "log_probability_bias"
SIDES = ("first", "second")
# A spread of scores, in nats, that is none: float32 has no more digits.
NOISE = 1e-5


class Context(NamedTuple):
    """Tokens that a model reads, and the place at which it says what a target word's token is."""

    tokens: list[int]
    place: int


@dataclass(frozen=True)
class Shown:
    """What a model reads of one template.

    Attributes:
        given: A context of each attribute.
        prior: Of each attribute the context without it.
        pieces: The tokens of each target word; of one that is not in the vocabulary none.
        unknown: How many tokens of each attribute are not in the vocabulary.
    """

    given: list[Context]
    prior: list[Context]
    pieces: dict[str, list[int]]
    unknown: list[int]


def read(dataset: str, settings: LogProbabilityBiasSettings) -> pd.DataFrame:
    """Return a row for each attribute in each template of each test: columns test, template, side, attribute."""
    del dataset
    rows = [
        (name, template, side, attribute)
        for name, test in settings.tests.items()
        for template in test.templates
        for side, attributes in test.attributes.given().items()
        for attribute in attributes
    ]
    return pd.DataFrame(rows, columns=["test", "template", "side", "attribute"])


def measure(
    model: AnyLanguageModel, items: pd.DataFrame, settings: LogProbabilityBiasSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return the scores of every attribute in every template, and what they amount to.

    Left out, and counted by name, are target words that are not one token of the vocabulary in every template, and
    attributes with tokens outside it.

    Raises:
        SettingError: Too few words of a side are left, or a causal model is to say a target before the attribute.
        InputError: The model reads fewer tokens than a text has.
    """
    tables: list[pd.DataFrame] = []
    measured: dict[str, Measurement] = {}
    for name, test in settings.tests.items():
        table, found = _tested(model, items[items["test"] == name].reset_index(drop=True), test, name, seed)
        tables.append(table)
        measured |= found
    return pd.concat(tables, ignore_index=True), measured


def _tested(
    model: AnyLanguageModel, items: pd.DataFrame, test: LogProbabilityBiasTest, name: str, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    words = [*test.targets.first, *test.targets.second]
    rows = {template: np.flatnonzero(items["template"] == template) for template in test.templates}
    shown = {name: _shown(model, name, name, list(items["attribute"].iloc[own]), words) for name, own in rows.items()}
    pieces = {word: max(len(each.pieces[word]) for each in shown.values()) for word in words}
    left_out = {word for word in words if any(len(each.pieces[word]) != 1 for each in shown.values())}
    unknown = np.zeros(len(items), dtype=np.int64)
    for template, own in rows.items():
        unknown[own] = shown[template].unknown
    unknown_of = pd.Series(unknown).groupby(items["attribute"]).max()
    known = items["attribute"].map(unknown_of) == 0
    _check_left(name, "targets", {side: set(getattr(test.targets, side)) - left_out for side in SIDES})
    _check_left(name, "attributes", {side: set(items["attribute"][known & (items["side"] == side)]) for side in SIDES})
    scores = np.empty((len(items), len(SIDES)))
    for template, own in rows.items():
        tokens = [
            [shown[template].pieces[word][0] for word in getattr(test.targets, side) if word not in left_out]
            for side in SIDES
        ]
        given, prior = (_said(model, contexts, tokens) for contexts in (shown[template].given, shown[template].prior))
        scores[own] = given - prior
    table = items.assign(**{f"{side}_targets": scores[:, place] for place, side in enumerate(SIDES)})
    table = table.assign(score=scores[:, 0] - scores[:, 1], seed=seed)[known].reset_index(drop=True)
    measured = {f"{metric}/{name}": found for metric, found in bias_scores(table, seed).items()}
    # A word outside the vocabulary is one token, which stands for all such words.
    for kind, found in (
        ("targets", {word: max(1, pieces[word]) for word in words if word in left_out}),
        ("attributes", {str(word): int(count) for word, count in unknown_of.items() if count}),
    ):
        metric = f"test/{NAME}_{kind}_left_out/{name}"
        measured[metric] = Measurement(len(found))
        measured |= {f"{metric}/{word}": Measurement(count) for word, count in found.items()}
    return table, measured


def bias_scores(table: pd.DataFrame, seed: int) -> dict[str, Measurement]:
    """Return the mean score of first attributes less that of second ones, and that by the spread over all of them.

    The intervals are percentile bootstraps over templates and, within either side, attributes; `n` is the number of
    attributes. There are none where a side has one attribute, and no second metric where scores do not differ.

    Args:
        table: Columns template, side, attribute and score, of every attribute in every template.
        seed: Of the bootstrap.
    """
    wide = table.pivot(index=["side", "attribute"], columns="template", values="score")
    sides = [wide.loc[side].to_numpy() for side in SIDES]
    once = [np.ones((1, len(rows))) for rows in sides]
    value, spread = _difference(sides, once, np.ones((1, wide.shape[1])))
    draws = generator(seed, NAME)
    times = [
        draws.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_REPLICATES)
        for count in (*map(len, sides), wide.shape[1])
    ]
    differences, spreads = _difference(sides, times[:2], times[2])
    found = {NAME: (value, differences)}
    if spread[0] > NOISE:
        # In a replicate whose attributes are all alike neither side goes with either group.
        effects = np.divide(differences, spreads, out=np.zeros_like(differences), where=spreads > NOISE)
        found[f"{NAME}_effect_size"] = (value / spread, effects)
    few = min(map(len, sides)) < 2
    tail = 50 * (1 - CONFIDENCE)
    measured = {}
    for name, (one, replicates) in found.items():
        low, high = (None, None) if few else map(float, np.percentile(replicates, [tail, 100 - tail]))
        measured[f"test/{name}"] = Measurement(float(one[0]), len(wide), low, high)
    return measured


def _difference(
    sides: Sequence[NDArray[np.float64]], times: Sequence[NDArray[Any]], of_templates: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (replicates,) differences of the sides' means, and standard deviations over the attributes of both.

    Args:
        sides: (attributes, templates) scores of either.
        times: (replicates, attributes) how often each attribute of either was drawn.
        of_templates: (replicates, templates) how often each template was.
    """
    count = sum(map(len, sides))
    means = [of_templates @ scores.T / scores.shape[1] for scores in sides]
    first, second = ((drawn * each).sum(axis=1) / each.shape[1] for drawn, each in zip(times, means, strict=True))
    drawn, values = np.concatenate(list(times), axis=1), np.concatenate(means, axis=1)
    middle = (drawn * values).sum(axis=1, keepdims=True) / count
    variance = (drawn * (values - middle) ** 2).sum(axis=1) / max(count - 1, 1)
    return first - second, np.sqrt(variance)


def _check_left(test: str, kind: str, left: dict[str, set[str]]) -> None:
    for side, words in left.items():
        if not words:
            allowed = "one token each" if kind == "targets" else "no token that stands for what it lacks"
            problem = "no word is left that is in the model's vocabulary"
            raise SettingError(f"measures.{NAME}.tests.{test}.{kind}.{side}", problem, f"name words of {allowed}")


def _shown(model: AnyLanguageModel, test: str, template: str, attributes: Sequence[str], words: Sequence[str]) -> Shown:
    if isinstance(model, MaskedLanguageModel):
        shown = _shown_to_masked(model, template, attributes, words)
    else:
        shown = _shown_to_causal(model, test, template, attributes, words)
    check_length(model, max(len(context.tokens) for context in (*shown.given, *shown.prior)))
    return shown


def _shown_to_masked(
    model: MaskedLanguageModel, template: str, attributes: Sequence[str], words: Sequence[str]
) -> Shown:
    """Return the template with a mask for the target, and for the prior as many masks as the attribute has tokens."""
    tokenize = whole_tokenizer(model)
    mask = str(tokenize.id_to_token(model.mask_token))
    marks = unknown_tokens(tokenize)

    def tokens(target: str, attribute: str) -> list[int]:
        ids: list[int] = tokenize.encode(_filled(template, target, attribute)).ids
        return ids

    def masked(attribute: str) -> Context:
        found = tokens(mask, attribute)
        at = [place for place, token in enumerate(found) if token == model.mask_token]
        return Context(found, at[0] if template.index(TARGET) < template.index(ATTRIBUTE) else at[-1])

    given = [masked(attribute) for attribute in attributes]
    both = tokens(mask, mask)
    prior = [masked(" ".join([mask] * (len(each.tokens) - len(both) + 1))) for each in given]
    # What stands around the target's place is the same whatever stands in it.
    tail = len(given[0].tokens) - given[0].place - 1
    pieces = {}
    for word in words:
        found = tokens(word, attributes[0])
        pieces[word] = _known(found[given[0].place : len(found) - tail], marks)
    return Shown(given, prior, pieces, _counts(given, both, marks))


def _shown_to_causal(
    model: LanguageModel, test: str, template: str, attributes: Sequence[str], words: Sequence[str]
) -> Shown:
    """Return the template up to the target, and for the prior no more than the mark of a beginning."""
    before, _, _ = template.partition(TARGET)
    if ATTRIBUTE not in before:
        problem = f"{template!r} has {TARGET} before {ATTRIBUTE}, which a causal model has not read there"
        raise SettingError(
            f"measures.{NAME}.tests.{test}.templates", problem, f"put {ATTRIBUTE} first, or measure masked models"
        )
    tokenize = whole_tokenizer(model)
    marks = unknown_tokens(tokenize)

    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenize.encode(text).ids
        return ids

    # Of most vocabularies, the space before a word is in its token.
    texts = [_filled(before, "", attribute).rstrip() for attribute in attributes]
    given = [Context(found, len(found) - 1) for found in map(tokens, texts)]
    prior = [Context(tokens(""), 0)] * len(given)
    pieces = {}
    for word in words:
        found = tokens(_filled(before, "", attributes[0]) + word)
        pieces[word] = _known(found[len(given[0].tokens) :], marks)
    return Shown(given, prior, pieces, _counts(given, tokens(_filled(before, "", "")), marks))


def _filled(template: str, target: str, attribute: str) -> str:
    return template.replace(TARGET, target).replace(ATTRIBUTE, attribute)


def _known(pieces: list[int], marks: set[int]) -> list[int]:
    return [] if marks & set(pieces) else pieces


def _counts(contexts: Iterable[Context], without: Sequence[int], marks: set[int]) -> list[int]:
    """Return how many tokens of contexts are unknown, less those of one without its attribute."""
    of_template = sum(token in marks for token in without)
    return [sum(token in marks for token in context.tokens) - of_template for context in contexts]


@torch.no_grad()
def _said(model: AnyLanguageModel, contexts: Sequence[Context], sides: Sequence[list[int]]) -> NDArray[np.float64]:
    """Return (n, sides) logs of the summed probabilities of each side's tokens at the places of n contexts."""
    found = np.empty((len(contexts), len(sides)))
    for start in range(0, len(contexts), model.chunk):
        some = contexts[start : start + model.chunk]
        ids, lengths = (
            torch.from_numpy(each).to(model.device) for each in padded_ids([context.tokens for context in some])
        )
        places = torch.tensor([[context.place] for context in some], device=model.device)
        if isinstance(model, MaskedLanguageModel):
            logits = model.logits(ids, lengths, places)[:, 0]
        else:
            # No token looks at those behind it, so padding needs no mask.
            everywhere = model.network(input_ids=ids.long(), use_cache=False).logits
            logits = everywhere[torch.arange(len(some), device=model.device), places[:, 0]]
        said = torch.log_softmax(logits.double(), dim=1)
        by_side = [torch.logsumexp(said[:, tokens], dim=1) for tokens in sides]
        found[start : start + len(some)] = torch.stack(by_side, dim=1).cpu().numpy()
    return found
