"""A synthetic project: made-up numbers for every cell, written as the other verbs write them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.common import artifacts, measurements
from stages.common.measurements import About, Measurement
from stages.common.statistics import proportion
from stages.report.build import build
from stages.results.sources import Source, reported_studies, sources

SEEDS = [0, 1, 2]
SYNTHETIC: dict[str, Any] = {
    "profile": "quick",
    "whole": {
        "dataset": "letters",
        "partition": "halves",
        "model": "tiny",
        "seeds": SEEDS,
        "train": {"grid": {"variant": ["none", "dpsgd", "control"]}},
        "federate": {"grid": {"variant": ["fedavg"]}},
        "attack": {"grid": {"variant": ["none", "dpsgd", "fedavg", "control"]}},
        "score": {"grid": {"variant": ["none", "dpsgd", "fedavg"]}},
    },
    "trained_only": {
        "dataset": "letters",
        "seeds": SEEDS,
        "train": {"grid": {"model": ["large", "small"]}},
        "distill": {"grid": {"variant": ["distilled"]}},
    },
    "report": {"targets": {"whole": 0.5}},
}


@pytest.fixture
def parameters() -> dict[str, Any]:
    return copy.deepcopy(SYNTHETIC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]) -> Path:
    """An empty project with the synthetic cells in it, as the working folder."""
    monkeypatch.chdir(tmp_path)
    write_project(parameters)
    return tmp_path


@pytest.fixture(scope="session")
def synthetic() -> dict[str, Any]:
    """The parameters of the synthetic project: do not change them."""
    return SYNTHETIC


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an untouched synthetic project: read it only."""
    root = tmp_path_factory.mktemp("synthetic")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(SYNTHETIC)
        build(SYNTHETIC, reported_studies(SYNTHETIC), Path("reports"))
    return root / "reports"


@pytest.fixture
def write() -> Callable[[dict[str, Any]], None]:
    return write_project


def write_project(parameters: dict[str, Any]) -> None:
    """Write params.yaml, and the metrics and curves of every cell it names."""
    # JSON is YAML; the order of the keys is the order of a grid's axes.
    Path("params.yaml").write_text(json.dumps(parameters), encoding="utf-8")
    Path("requirements").mkdir(exist_ok=True)
    Path("pyproject.toml").write_text('dependencies = [\n    "torch==2.13.0",\n]\n', encoding="utf-8")
    Path("requirements/lock.txt").write_text("scipy==0.1 \\\n    --hash=sha256:0\n", encoding="utf-8")
    Path("requirements/packages.txt").write_text("words==1.0\n", encoding="utf-8")
    for study in reported_studies(parameters):
        seeds = parameters[study].get("seeds", SEEDS)
        for source in sources(parameters, study):
            write_cell(source, seeds)


def write_cell(source: Source, seeds: list[int]) -> None:
    private = "dp" in source.cell
    about = About(
        study=source.study,
        cell=source.cell,
        verb=source.verb,
        role="control" if source.cell == "control" else "model",
        dataset="letters",
        model=None if source.verb == "partition" else "tiny",
        partition="halves",
        mechanism="dpsgd" if private else "none",
        command=f"python -m stages.{source.verb} --study {source.study} --cell {source.cell}",
        inputs_sha256="0123456789abcdef" * 4,
    )
    generators = {seed: np.random.default_rng([seed, *map(ord, source.cell + source.verb)]) for seed in seeds}
    by_seed = {seed: measured(source.verb, private, generator) for seed, generator in generators.items()}
    measurements.write(source.metrics, about, by_seed)
    if source.curve:
        tables = [curve(source.verb, generator).assign(seed=seed) for seed, generator in generators.items()]
        artifacts.write_table(source.curve, pd.concat(tables))


def measured(verb: str, private: bool, generator: np.random.Generator) -> dict[str, Measurement]:
    def share(low: float, high: float, n: int = 800) -> Measurement:
        return proportion(round(generator.uniform(low, high) * n), n)

    match verb:
        case "partition":
            return {
                "train/clients": Measurement(40.0),
                "train/label_divergence": Measurement(generator.uniform(0.2, 0.4)),
            }
        case "attack":
            return {
                "test/auc": share(0.5, 0.55) if private else share(0.6, 0.7),
                "test/true_positive_rate_at_1_percent": share(0.01, 0.04),
            }
        case "score":
            groups = {
                f"test/{rate}/{group}": share(0.2, 0.8, 120)
                for rate in ("true_positive_rate", "false_positive_rate")
                for group in ("vowels", "consonants")
            }
            whole = {
                "test/true_positive_rate_gap": Measurement(generator.uniform(0.05, 0.2), 240),
                "test/false_positive_rate_gap": Measurement(generator.uniform(0.05, 0.2), 240),
                "test/counterfactual_flip_rate": share(0.02, 0.1),
            }
            return groups | whole
    utility = {
        "test/accuracy": share(0.7, 0.75) if private else share(0.8, 0.85),
        "train/noise_multiplier": Measurement(generator.uniform(0.4, 0.6)),
        "train/parameters": Measurement(66_051.0),
    }
    epsilons = {"epsilon": 2.97, "replace_one_epsilon": 5.41, "delta": 1e-5}
    stated = {f"train/{name}": Measurement(value) for name, value in epsilons.items()}
    return utility | (stated if private else {})


def curve(verb: str, generator: np.random.Generator) -> pd.DataFrame:
    if verb == "partition":
        sizes = generator.multinomial(2000, generator.dirichlet(np.ones(40)))
        rows = [
            (rank, f"letter {label}", count)
            for rank, size in enumerate(sorted(sizes, reverse=True))
            for label, count in enumerate(generator.multinomial(size, generator.dirichlet(np.full(5, 0.3))))
        ]
        return pd.DataFrame(rows, columns=["client", "label", "count"])
    if verb == "attack":
        rates = np.linspace(0, 1, 201)
        power = generator.uniform(0.6, 0.95)
        return pd.DataFrame({"method": "loss", "false_positive_rate": rates, "true_positive_rate": rates**power})
    steps = np.arange(1, 41)
    values = 0.8 - 0.5 * np.exp(-steps / 10) + generator.normal(0, 0.01, len(steps))
    accuracy = pd.DataFrame({"step": steps, "metric": "test/accuracy", "value": values})
    loss = pd.DataFrame({"step": steps, "metric": "train/loss", "value": 1 - values})
    return pd.concat([accuracy, loss])
