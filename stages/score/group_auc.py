"""Bias of a classifier of toxic text by areas under the ROC of groups, as Jigsaw and HateXplain measure it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.common.measurements import Measurement
from stages.common.statistics import bootstrap_interval
from stages.common.streams import generator
from stages.models.evaluate import predict
from stages.models.fitted import FittedModel
from stages.score.areas import Rows, Scores, area, resampled_areas
from stages.score.by_group import GroupFindings
from stages.score.items import read_items
from stages.score.settings import Background, GroupAucSettings

Floats = Scores
# Row numbers of what should score higher, and of what should score lower.
Sides = tuple[Rows, Rows]
# Row numbers of a group's toxic and other examples, and of its background's toxic and other examples.
Part = tuple[Rows, Rows, Rows, Rows]

# Numbers of a bootstrap that are worked on at a time: a hundred megabytes of them.
BLOCK = 2**24
AREAS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")


@dataclass(frozen=True)
class Texts:
    """Test texts, and the groups that are compared.

    Attributes:
        test: The prepared table.
        about: Columns example_id, toxic and groups, row by row.
        groups: Names of those that are compared.
    """

    test: pd.DataFrame
    about: pd.DataFrame
    groups: list[str]


def read(dataset: str, settings: GroupAucSettings) -> Texts:
    """Read what all seeds of a cell are measured on.

    Raises:
        SettingError: The data have no groups or not those that are named, or lack a positive label or all others.
        InputError: The data cannot be read.
    """
    test = read_items(dataset, settings)
    labels = sorted(test["label"].unique())
    if unknown := [label for label in settings.positive_labels if label not in labels]:
        problem = f"{unknown[0]!r} is no label of the test texts of {dataset}"
        raise SettingError("positive_labels", problem, f"allowed: {', '.join(labels)}")
    toxic = test["label"].isin(settings.positive_labels)
    if toxic.all():
        raise SettingError("positive_labels", f"all test texts of {dataset} have one of these", "leave a label out")
    named = test["groups"].map(list) if "groups" in test else test["group"].map(lambda group: [group])
    there = sorted({group for each in named for group in each})
    if unknown := [group for group in settings.groups or [] if group not in there]:
        problem = f"no test text of {dataset} names {unknown[0]!r}"
        raise SettingError("groups", problem, f"allowed: {', '.join(there) or 'none'}")
    about = test[["example_id"]].assign(toxic=toxic, groups=named)
    return Texts(test, about, settings.groups or there)


def measure(
    model: FittedModel, texts: Texts, settings: GroupAucSettings, seed: int
) -> tuple[pd.DataFrame, dict[str, Measurement]]:
    """Return how each text of each group ranks among others, and the AUCs of groups.

    A text's score is the probability of the positive labels together.
    """
    probabilities = np.exp(predict(model.classifier, model.examples(texts.test)).label_log_probabilities)
    positive = [model.vocabulary.labels.index(label) for label in settings.positive_labels]
    table = texts.about.assign(score=probabilities[:, positive].sum(axis=1))
    found = group_auc(table, texts.groups, settings.background, settings.minimum, settings.power, seed)
    sizes = table["groups"].explode().value_counts()
    left_out = {f"test/group_auc_left_out/{group}": Measurement(int(sizes[group])) for group in found.left_out}
    return found.examples.assign(seed=seed), found.measured | left_out


def generalised_mean(values: Floats, power: float) -> Floats:
    """Return the generalised mean along the last axis, (mean of values^power)^(1/power): the lower ones count most.

    Args:
        values: (..., groups) at least 0; NaN is left out, and of nothing but NaN the mean is NaN.
        power: Below 0; the lower, the nearer is the mean to the least value.

    Raises:
        ValueError: The power is not below 0.

    Source: Jigsaw's competition of 2019, "Generalized Mean of Bias AUCs".
    """
    if power >= 0:
        raise ValueError(f"a power of {power}; it is to be below 0, so that the lowest values count most")
    there = ~np.isnan(values)
    # Relative to the least: the powers of small values are beyond what a float holds.
    least = np.where(there, values, np.inf).min(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = values / np.where(least > 0, least, 1.0)
        mean = (np.where(there, relative**power, 0.0).sum(axis=-1) / there.sum(axis=-1)) ** (1 / power)
        means: Floats = np.where(there.any(axis=-1), np.where(least[..., 0] > 0, least[..., 0] * mean, 0.0), np.nan)
    return means


def group_auc(
    table: pd.DataFrame, groups: Sequence[str], background: Background, minimum: int, power: float, seed: int
) -> GroupFindings:
    """Return the AUCs of each group, within it and against its background, and what they come to together.

    A group whose toxic or other examples, or those of its background, are too few is left out of everything but the
    backgrounds of others, so that all generalised means are of the same groups. A replicate of the bootstrap in which
    a group has examples of one class only is averaged over the other groups.

    Args:
        table: Columns example_id, score (higher: more toxic), toxic (bool) and groups (the names of those that it
            belongs to: none, one or several).
        groups: Those that are compared; other names in the table are not heeded.
        background: What a group is held against. `jigsaw`: all examples outside it. `hatexplain`: examples of the
            other groups; those of no group are dropped.
        minimum: The fewest toxic and the fewest other examples that a group, and its background, must have.
        power: Of the generalised means, below 0.
        seed: Of the bootstrap of the generalised means.

    Returns:
        Findings whose `examples` have a row for each example in each group measured: of a toxic example
        `within_group` is the share of the group's other examples that score lower, `against_background` that of the
        background's; of an example that is not toxic they are the shares of toxic examples that score higher. Ties
        count one half. Their means are the group's subgroup AUC, BNSP (toxic) and BPSN (others).

    Raises:
        ValueError: The minimum is below 1, a score is not finite, or the table has toxic or other examples only.

    Source: Borkan et al. 2019, section 3; the final score: Jigsaw's competition of 2019, from memory; the second
    background: HateXplain's `Bias_Calculation_NB.ipynb` (Mathew et al. 2021).
    """
    if minimum < 1:
        raise ValueError(f"a minimum of {minimum}: without examples of both classes a group has no AUC")
    toxic, scores = table["toxic"].to_numpy(dtype=bool), table["score"].to_numpy(dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    if toxic.all() or not toxic.any():
        raise ValueError(f"of {len(toxic)} examples {int(toxic.sum())} are toxic: there is no AUC")
    member = np.array([[group in named for group in groups] for named in map(set, table["groups"])], dtype=bool)
    used = np.ones(len(table), dtype=bool)
    if background == "hatexplain":
        used &= member.any(axis=1)
    parts, left_out = _parts(member, used, toxic, groups, minimum)
    areas = {name: [_sides(name, part) for part in parts.values()] for name in AREAS}

    measured = {"test/toxicity_auc": area(scores[toxic], scores[~toxic])}
    for group, (own_toxic, own_other, other_toxic, other_other) in parts.items():
        for name in AREAS:
            positives, negatives = _sides(name, parts[group])
            measured[f"test/{name}/{group}"] = area(scores[positives], scores[negatives])
        measured[f"test/positive_aeg/{group}"] = _gap(scores[own_toxic], scores[other_toxic])
        measured[f"test/negative_aeg/{group}"] = _gap(scores[own_other], scores[other_other])
    if parts:
        measured |= _means(scores, toxic, areas, used, power, seed, final=background == "jigsaw")
    measured["test/groups_measured"] = Measurement(len(parts))
    measured["test/groups_left_out"] = Measurement(len(left_out))
    measured["test/background_dropped"] = Measurement(int((~used).sum()))
    return GroupFindings(_examples(table, scores, toxic, parts), measured, left_out)


def _parts(
    member: NDArray[np.bool_], used: NDArray[np.bool_], toxic: NDArray[np.bool_], groups: Sequence[str], minimum: int
) -> tuple[dict[str, Part], dict[str, str]]:
    parts: dict[str, Part] = {}
    left_out: dict[str, str] = {}
    for group, inside in zip(groups, member.T, strict=True):
        outside = used & ~inside
        own, other = ((np.flatnonzero(rows & toxic), np.flatnonzero(rows & ~toxic)) for rows in (inside, outside))
        parts[group] = (*own, *other)
        sizes = [len(rows) for rows in parts[group]]
        if min(sizes) < minimum:
            del parts[group]
            counts = "{} toxic and {} other examples, {} and {} in the background".format(*sizes)
            left_out[group] = f"{counts}; each must be at least {minimum}"
    return parts, left_out


def _sides(area: str, part: Part) -> Sides:
    own_toxic, own_other, other_toxic, other_other = part
    return {
        "subgroup_auc": (own_toxic, own_other),
        "bpsn_auc": (other_toxic, own_other),
        "bnsp_auc": (own_toxic, other_other),
    }[area]


def _gap(own: Floats, others: Floats) -> Measurement:
    """Return 0.5 - U / (n1 n2), U being the pairs in which the background's example scores higher."""
    above = area(own, others)
    if above.ci_low is None or above.ci_high is None:
        return Measurement(above.value - 0.5, above.n)
    return Measurement(above.value - 0.5, above.n, above.ci_low - 0.5, above.ci_high - 0.5)


def _means(
    scores: Floats,
    toxic: NDArray[np.bool_],
    areas: dict[str, list[Sides]],
    used: NDArray[np.bool_],
    power: float,
    seed: int,
    final: bool,
) -> dict[str, Measurement]:
    """Return the generalised means, and the final score if it is due, with their bootstrap over examples."""
    terms = {f"generalised_mean_{name}": [sides] for name, sides in areas.items()}
    if final:
        # A generalised mean of the one AUC of all examples is that AUC.
        overall = [(np.flatnonzero(toxic), np.flatnonzero(~toxic))]
        terms["jigsaw_final_score"] = [overall, *areas.values()]
    once = used.astype(np.int64)
    measured = {}
    for name, means in terms.items():
        statistic = partial(_mean_of_means, scores=scores, means=means, power=power)
        [value] = statistic(once[None])
        ends = bootstrap_interval(statistic, once, generator(seed, "examples of groups"))
        # A replicate in which no group has an AUC has no mean.
        interval = ends if np.isfinite(ends).all() else (None, None)
        measured[f"test/{name}"] = Measurement(float(value), int(once.sum()), *interval)
    return measured


def _mean_of_means(times: Rows, scores: Floats, means: list[list[Sides]], power: float) -> Floats:
    """Return, of each replicate, the mean of generalised means of AUCs.

    Args:
        times: (replicates, n) how often each row is in a replicate.
        scores: (n,) of the rows.
        means: Of each generalised mean, the sides of its AUCs.
        power: Of the generalised means.
    """
    blocks = np.array_split(times, -(-times.size // BLOCK))
    found: Floats = np.concatenate(
        [
            np.mean(
                [
                    generalised_mean(np.stack([resampled_areas(block, scores, *pair) for pair in sides], 1), power)
                    for sides in means
                ],
                0,
            )
            for block in blocks
        ]
    )
    return found


def _examples(table: pd.DataFrame, scores: Floats, toxic: NDArray[np.bool_], parts: dict[str, Part]) -> pd.DataFrame:
    found = []
    for group, (own_toxic, own_other, other_toxic, other_other) in parts.items():
        for rows, sign, within, against in (
            (own_toxic, 1, own_other, other_other),
            (own_other, -1, own_toxic, other_toxic),
        ):
            found.append(
                pd.DataFrame(
                    {
                        "example_id": table["example_id"].to_numpy()[rows],
                        "group": group,
                        "toxic": toxic[rows],
                        "score": scores[rows],
                        "within_group": _outscored(sign * scores[rows], sign * scores[within]),
                        "against_background": _outscored(sign * scores[rows], sign * scores[against]),
                    }
                )
            )
    columns = ["example_id", "group", "toxic", "score", "within_group", "against_background"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _outscored(scores: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    less, not_more = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    shares: Floats = (less + not_more) / (2 * len(others))
    return shares
