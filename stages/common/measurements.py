"""What is measured: the known metrics, each number with its n and its interval, and their file.

A metrics file holds `about` (what was measured, by which command, on which inputs) and `metrics`:
`<split>/<metric>[/<group>]` -> seed -> value, n, ci_low, ci_high. Every interval is at 95% and covers
the sampling of the examples; the spread over seeds is the report's business and a different number.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from stages.common import artifacts

CONFIDENCE = 0.95
BOOTSTRAP_REPLICATES = 1000


@dataclass(frozen=True)
class Metric:
    """How to read a metric: its unit, the best value (`max`, `min`, a target, or None) and its name in tables."""

    unit: str
    best: str | float | None
    title: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric("fraction", "max", "accuracy"),
    "macro_f1": Metric("fraction", "max", "macro-F1"),
    "slot_f1": Metric("fraction", "max", "slot F1 (spans)"),
    "epsilon": Metric("epsilon", "min", "epsilon"),
    "noise_multiplier": Metric("ratio", None, "noise multiplier"),
    "auc": Metric("fraction", 0.5, "attack AUC"),
    "true_positive_rate_at_1_percent": Metric("fraction", 0.01, "TPR at 1% FPR"),
    "true_positive_rate_at_0_1_percent": Metric("fraction", 0.001, "TPR at 0.1% FPR"),
    "true_positive_rate": Metric("fraction", None, "TPR"),
    "false_positive_rate": Metric("fraction", None, "FPR"),
    "true_positive_rate_gap": Metric("fraction", "min", "TPR gap"),
    "false_positive_rate_gap": Metric("fraction", "min", "FPR gap"),
    "counterfactual_flip_rate": Metric("fraction", "min", "counterfactual flip rate"),
    "parameters": Metric("count", None, "trained parameters"),
    "examples": Metric("count", None, "examples"),
    "clients": Metric("count", None, "clients"),
    "effective_clients": Metric("count", None, "effective clients"),
    "label_divergence": Metric("bits", None, "label divergence (Jensen-Shannon)"),
    "smallest_client": Metric("examples", None, "smallest client"),
    "largest_client": Metric("examples", None, "largest client"),
}


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
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Measurement(successes / n, n, low, high)


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
    """Return measurements as plain values; ValueError for an unknown kind of key or a value that is NaN."""
    for key, measurement in metrics.items():
        parts = key.split("/", 2)
        if len(parts) not in (2, 3) or parts[1] not in METRICS:
            raise ValueError(f"{key}: a metric is named split/metric[/group]; metrics: {', '.join(METRICS)}")
        if not np.isfinite(measurement.value):
            raise ValueError(f"{key}: {measurement.value} is no measurement")
    return {key: asdict(measurement) for key, measurement in metrics.items()}


def write(path: Path, about: Mapping[str, Any], by_seed: Mapping[int, Mapping[str, Measurement]]) -> None:
    """Write a metrics file from seed -> key -> measurement.

    Args:
        path: reports/metrics/<study>/<cell>/<verb>.json
        about: What was measured: study, cell, verb, role, dataset, model, partition, mechanism, command,
            inputs_sha256.
        by_seed: The measurements of each seed.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for seed, measured in by_seed.items():
        for key, value in checked(measured).items():
            metrics.setdefault(key, {})[str(seed)] = value
    artifacts.write_json(path, {"about": dict(about), "metrics": metrics})
