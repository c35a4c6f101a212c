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

from stages.common import artifacts

CONFIDENCE = 0.95


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
