"""The metrics file: what was measured, and each number with its n and its interval.

A metrics file holds `about` (what was measured, by which command, on which inputs) and `metrics`:
`<split>/<metric>[/<group>]` -> seed -> value, n, ci_low, ci_high. Every interval is at 95% and covers
the sampling of the examples; the spread over seeds is the report's business and a different number.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from stages.common import artifacts

CONFIDENCE = 0.95
BOOTSTRAP_REPLICATES = 1000


Role = Literal["model", "control", "reference", "teacher", "student", "baseline", "shadow", "partition"]


@dataclass(frozen=True)
class About:
    """What a metrics file measures, and how to do it again; None for what there is not.

    `dataset` is what it was measured on, `model` and `mechanism` what was measured. `inputs_sha256` is of the files
    that the command read.
    """

    study: str
    cell: str
    verb: str
    role: Role
    command: str
    inputs_sha256: str
    dataset: str | None = None
    model: str | None = None
    partition: str | None = None
    mechanism: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Measurement:
    """One number: value, the examples it rests on (None: not a sample), and its 95% interval."""

    value: float
    n: int | None = None
    ci_low: float | None = None
    ci_high: float | None = None


def proportion(successes: int, n: int) -> Measurement:
    """Return successes / n with its exact interval (Clopper and Pearson 1934)."""
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion")
    low, high = clopper_pearson(np.array(successes), n)
    return Measurement(successes / n, n, float(low), float(high))


def clopper_pearson(successes: NDArray[np.int64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the exact 95% interval of each number of successes in n; half of the 5% beyond either end."""
    tail = (1 - CONFIDENCE) / 2
    # At no success and at n the beta distribution is a point.
    low = np.where(successes > 0, betaincinv(np.maximum(successes, 1), n - successes + 1, tail), 0.0)
    high = np.where(successes < n, betaincinv(successes + 1, np.maximum(n - successes, 1), 1 - tail), 1.0)
    return low, high


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: int, seed: int) -> Measurement:
    """Return the mean F1 over the labels that occur in `truth`, with a percentile bootstrap interval.

    A replicate is averaged over the labels that occur in it: a rare label that was not drawn has no F1.

    Args:
        truth: (n,) label indices below `labels`.
        predicted: (n,) label indices below `labels`.
        labels: Number of labels.
        seed: Seed of the bootstrap. Resampling n examples is one multinomial draw of the confusion matrix.
    """
    confusion = np.bincount(truth * labels + predicted, minlength=labels * labels)
    draws = np.random.default_rng(seed).multinomial(len(truth), confusion / len(truth), size=BOOTSTRAP_REPLICATES)
    stack = np.concatenate([confusion[None], draws]).reshape(-1, labels, labels)
    hits = np.einsum("bii->bi", stack)
    size = stack.sum(axis=2) + stack.sum(axis=1)
    f1 = np.divide(2 * hits, size, out=np.zeros(hits.shape), where=size > 0)
    occurs = stack.sum(axis=2) > 0
    scores = (f1 * occurs).sum(axis=1) / occurs.sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(scores[1:], [tail, 100 - tail])
    return Measurement(float(scores[0]), len(truth), float(low), float(high))


def checked(metrics: Mapping[str, Measurement]) -> dict[str, Any]:
    """Return measurements as plain values; ValueError for a key of another form or a value that is NaN."""
    for key, measurement in metrics.items():
        if not all(key.split("/", 2)) or "/" not in key:
            raise ValueError(f"{key}: a metric is named split/metric[/group]")
        if not np.isfinite(measurement.value):
            raise ValueError(f"{key}: {measurement.value} is no measurement")
    return {key: asdict(measurement) for key, measurement in metrics.items()}


def no_guarantee(reason: str) -> dict[str, Any]:
    """Return the privacy.json of what nothing protects."""
    return {"epsilon": None, "reason": reason}


def write(path: Path, about: About, by_seed: Mapping[int, Mapping[str, Measurement]]) -> None:
    """Write a metrics file from seed -> key -> measurement.

    Args:
        path: reports/metrics/<study>/<cell>/<verb>.json
        about: What was measured.
        by_seed: The measurements of each seed. The report knows what each metric is: stages/results/metrics.py.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for seed, measured in by_seed.items():
        for key, value in checked(measured).items():
            metrics.setdefault(key, {})[str(seed)] = value
    artifacts.write_json(path, {"about": asdict(about), "metrics": metrics})
