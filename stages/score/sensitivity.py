"""Accumulated prediction sensitivity of test texts, and what it tells of decisions that gender changes.

Where a model's training texts have an association (stages/associations/planting.py), every test text is written in a
gender that a coin draws, and in the other: a decision that is not the same for both is known to depend on gender. Which
texts these are is then asked of P, and of counterfactual token fairness (Garg et al. 2019), which swaps words.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.associations import planting
from stages.common.errors import InputError, SettingError
from stages.common.measurements import Measurement
from stages.common.statistics import mean, proportion
from stages.common.streams import generator
from stages.counterfactual.swaps import read_swaps, swapped_texts
from stages.models.evaluate import predict
from stages.models.examples import read_split
from stages.models.fitted import FittedModel, load_named
from stages.score import token_weights
from stages.score.areas import area
from stages.score.detection import area_gain, correlation, correlation_gain, rank_correlation
from stages.score.settings import SensitivitySettings
from stages.score.token_weights import Tokens
from stages.sensitivity.gradients import Jacobian, Weights, jacobian, sensitivity
from stages.sensitivity.status import status_weights

Values = NDArray[np.float64]
# What a text is asked by besides status models; `uniform` and `random` know of no protected attribute.
LEXICON, UNIFORM, RANDOM = "lexicon", "uniform", "random"
# P is of the predicted class's probability, and raw; each of the others is so but for one thing. The relative one is P
# over that of equal weights: what the weights say beyond how near to a boundary a text is, on which all of P depends.
PLAIN = "prediction_sensitivity"
OTHERS = (
    *("all_classes_sensitivity", "true_class_sensitivity", "l1_sensitivity", "input_scaled_sensitivity"),
    *("log_odds_sensitivity", "relative_sensitivity"),
)
# By which of them it is told whose decision depends on gender, and how metrics name it.
TOLD_BY = {"sensitivity": PLAIN, "log_odds": "log_odds_sensitivity", "relative": "relative_sensitivity"}


@dataclass(frozen=True)
class Texts:
    """The prepared table of test texts, and word -> counterpart."""

    test: pd.DataFrame
    swaps: dict[str, str]


class Written(NamedTuple):
    """Test texts as a model is measured on them.

    Attributes:
        table: Prepared; its texts as they are, or as they are written in a gender.
        counterparts: The same texts in the other gender; None where no association is known.
    """

    table: pd.DataFrame
    counterparts: pd.DataFrame | None


def read(dataset: str, settings: SensitivitySettings) -> Texts:
    """Read what all seeds of a cell are measured on; InputError if the data or the swaps cannot be read."""
    return Texts(read_split(dataset, "test"), read_swaps(settings.swaps))


def measure(
    model: FittedModel, texts: Texts, settings: SensitivitySettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return P of every test text by each weighting of its tokens, and what it amounts to.

    Raises:
        SettingError: The model's training texts have no such association.
        InputError: A status model is missing, or is no classifier.
    """
    written = _written(model, texts, settings, seed)
    read_by = token_weights.read(model, written.table)
    status = {name: load_named(cell, seed) for name, cell in settings.status.items()}
    weights = _weights(read_by, written.table, texts, status, seed)
    table, found = _sensitivities(model, read_by, weights, written.table, seed)
    swapped = swapped_texts(written.table, texts.swaps)
    table["counterfactual_difference"] = _shift(model, found, swapped)
    measured = _means(table, weights, seed)
    changed = swapped["changed"].to_numpy()
    if changed.any():
        differences = table["counterfactual_difference"].to_numpy()[changed]
        measured["test/counterfactual_difference"] = mean(differences, seed)
    if written.counterparts is not None:
        others = predict(model.classifier, model.examples(written.counterparts)).labels
        depends: NDArray[np.bool_] = np.asarray(others != found.predicted)
        table = table.assign(gender=written.table["gender"].to_numpy(), depends=depends)
        measured["test/decisions_by_gender"] = proportion(int(depends.sum()), len(depends))
        left = len(texts.test) - len(table)
        measured["test/texts_of_no_single_gender"] = Measurement(float(left))
        right = int((table["predicted"] == table["label"]).sum())
        measured["test/accuracy_of_drawn_gender"] = proportion(right, len(table))
        measured |= _accuracies(status, written.table)
        if min(depends.sum(), (~depends).sum()) >= settings.minimum:
            measured |= _detection(table, list(weights), seed)
    return table, measured


def _written(model: FittedModel, texts: Texts, settings: SensitivitySettings, seed: int) -> Written:
    if settings.association is None:
        return Written(texts.test, None)
    try:
        planted = planting.read(model.folder, settings.association)
    except InputError as error:
        raise SettingError("measures.sensitivity.association", error.problem, error.remedy) from None
    pairs = zip(texts.test["example_id"], texts.test["text"], strict=True)
    drawn = [planting.either(text, planted, settings.association, name, seed) for name, text in pairs]
    kept = texts.test[[each is not None for each in drawn]]
    if kept.empty:
        problem = "no test text has gendered words of one gender"
        raise SettingError("measures.sensitivity.association", problem, "name other data, or leave `association` out")
    both = [each for each in drawn if each is not None]
    return Written(
        kept.assign(text=[each.text for each in both], gender=[each.gender for each in both]),
        kept.assign(text=[each.counterpart for each in both]),
    )


def _weights(
    read_by: Tokens, table: pd.DataFrame, texts: Texts, status: dict[str, FittedModel], seed: int
) -> dict[str, Weights]:
    """Return v by name: (n, length), zeros where a text has none."""

    def listed(word: str) -> bool:
        return word in texts.swaps or word.partition("'")[0] in texts.swaps

    weights = {LEXICON: token_weights.of_words(read_by, listed)}
    for name, other in status.items():
        theirs = token_weights.read(other, table)
        weights[name] = token_weights.carried(status_weights(other, theirs.encoded), theirs, read_by)
    weights[UNIFORM] = token_weights.uniform(read_by)
    weights[RANDOM] = token_weights.drawn(read_by, generator(seed, "sensitivity to random tokens"))
    return weights


def _accuracies(status: dict[str, FittedModel], table: pd.DataFrame) -> dict[str, Measurement]:
    """Return how often status models whose labels are `female` and `male` tell the gender that texts are written in."""
    measured = {}
    for name, model in status.items():
        if set(model.vocabulary.labels) == {"female", "male"}:
            # Whose labels are not those of the table.
            told = predict(model.classifier, model.examples(table.assign(label=table["gender"]))).labels
            right = np.array(model.vocabulary.labels)[told] == table["gender"].to_numpy()
            measured[f"test/status_accuracy/{name}"] = proportion(int(right.sum()), len(right))
    return measured


def _sensitivities(
    model: FittedModel, read_by: Tokens, weights: dict[str, Weights], table: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, Jacobian]:
    """Return a table of P by variant and weights, text by text, and the Jacobian of the probabilities."""
    found = jacobian(model.classifier, read_by.encoded, "all")
    odds = jacobian(model.classifier, read_by.encoded, "predicted", "log_odds")
    classes = found.probabilities.shape[1]
    rows = np.arange(len(table))
    predicted = found.norms[rows, found.predicted][:, None]
    labels = np.array(model.vocabulary.labels)
    true = np.array([model.vocabulary.labels.index(label) for label in table["label"]])
    columns: dict[str, Any] = {
        "example_id": table["example_id"].to_numpy(),
        "label": table["label"].to_numpy(),
        "seed": seed,
        "predicted": labels[found.predicted],
        "confidence": found.probabilities[rows, found.predicted],
        "tokens": read_by.names,
    }
    one = np.ones(1)
    equal = sensitivity(one, predicted, weights[UNIFORM])
    for name, v in weights.items():
        plain = sensitivity(one, predicted, v)
        columns |= {
            f"{PLAIN}/{name}": plain,
            f"relative_sensitivity/{name}": np.divide(plain, equal, out=np.zeros(len(plain)), where=equal > 0),
            f"all_classes_sensitivity/{name}": sensitivity(np.full(classes, 1 / classes), found.norms, v),
            f"true_class_sensitivity/{name}": sensitivity(one, found.norms[rows, true][:, None], v),
            f"l1_sensitivity/{name}": sensitivity(one, found.sums[rows, found.predicted][:, None], v),
            f"input_scaled_sensitivity/{name}": sensitivity(one, predicted * found.lengths[:, None], v),
            f"log_odds_sensitivity/{name}": sensitivity(one, odds.norms, v),
            f"weighted/{name}": v.any(axis=1),
            f"tokens/{name}": _by_token(predicted[:, 0] * v, read_by),
        }
    return pd.DataFrame(columns), found


def _by_token(values: Values, read_by: Tokens) -> list[Values]:
    """Return what each token of each text adds to P."""
    return [row[: len(names)] for row, names in zip(values, read_by.names, strict=True)]


def _shift(model: FittedModel, found: Jacobian, swapped: pd.DataFrame) -> Values:
    """Return (n,) by how much the probability of what is predicted differs in the text with words swapped."""
    rows, predicted = np.arange(len(swapped)), found.predicted
    others = np.exp(predict(model.classifier, model.examples(swapped)).label_log_probabilities)
    shift: Values = np.abs(others[rows, predicted] - found.probabilities[rows, predicted])
    # Where nothing was swapped, the rest is of another batch's rounding.
    return np.where(swapped["changed"], shift, 0.0)


def _means(table: pd.DataFrame, weights: dict[str, Weights], seed: int) -> dict[str, Measurement]:
    measured: dict[str, Measurement] = {}
    for name in weights:
        there = table[f"weighted/{name}"].to_numpy()
        measured[f"test/texts_without_weights/{name}"] = Measurement(float((~there).sum()))
        if not there.any():
            continue
        plain = table[f"{PLAIN}/{name}"].to_numpy()[there]
        measured[f"test/{PLAIN}/{name}"] = mean(plain, seed)
        if name == LEXICON:
            # What all models have whatever their status models: a column of joint tables.
            measured[f"test/{PLAIN}"] = measured[f"test/{PLAIN}/{name}"]
        for variant in OTHERS:
            values = table[f"{variant}/{name}"].to_numpy()[there]
            measured[f"test/{variant}/{name}"] = mean(values, seed)
            if len(values) > 1 and (agreement := rank_correlation(plain, values, seed)) is not None:
                measured[f"test/rank_agreement/{variant.removesuffix('_sensitivity')}_{name}"] = agreement
    return measured


def _detection(table: pd.DataFrame, names: list[str], seed: int) -> dict[str, Measurement]:
    """Return how well P, and counterfactual token fairness, tell the texts whose decision depends on gender."""
    depends = table["depends"].to_numpy()
    swaps = table["counterfactual_difference"].to_numpy()
    measured = {"test/counterfactual_auc": area(swaps[depends], swaps[~depends])}
    if (by_swaps := correlation(swaps, depends, seed)) is not None:
        measured["test/counterfactual_correlation"] = by_swaps
    for name in names:
        for called, variant in TOLD_BY.items():
            values = table[f"{variant}/{name}"].to_numpy()
            measured[f"test/{called}_auc/{name}"] = area(values[depends], values[~depends])
            measured[f"test/{called}_auc_gain/{name}"] = area_gain(values, swaps, depends, seed)
        values = table[f"{PLAIN}/{name}"].to_numpy()
        if (by_values := correlation(values, depends, seed)) is not None:
            measured[f"test/sensitivity_correlation/{name}"] = by_values
            measured[f"test/sensitivity_correlation_gain/{name}"] = correlation_gain(values, swaps, depends, seed)
    return measured
