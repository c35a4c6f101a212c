import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.common import measurements
from stages.common.errors import InputError
from stages.common.measurements import About, Measurement
from stages.results.long_table import COLUMNS, long_table
from stages.results.sources import Source

ABOUT = About(
    study="letters",
    cell="private",
    verb="train",
    role="model",
    dataset="alphabet",
    model="tiny",
    mechanism="dpsgd",
    command="python -m stages.train --study letters --cell private",
    inputs_sha256="ab" * 32,
)
TRAIN = Source("letters", "train", "private")
ATTACK = Source("letters", "attack", "private")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_train(by_seed: dict[int, dict[str, Measurement]]) -> None:
    measurements.write(TRAIN.metrics, ABOUT, by_seed)


def test_one_row_per_metric_and_seed_with_the_columns_of_the_design() -> None:
    write_train(
        {
            10: {"test/accuracy": Measurement(0.75, 100, 0.66, 0.82), "train/epsilon": Measurement(2.9)},
            9: {"test/accuracy": Measurement(0.5, 100, 0.4, 0.6), "train/epsilon": Measurement(3.1)},
        }
    )

    table = long_table("quick", [TRAIN])

    assert list(table.columns) == list(COLUMNS)
    assert list(table["metric"]) == ["accuracy", "accuracy", "epsilon", "epsilon"]
    assert list(table["seed"]) == [9, 10, 9, 10]
    assert list(table["epsilon"]) == [3.1, 2.9, 3.1, 2.9]
    row = table.iloc[1].to_dict()
    expected = {
        "profile": "quick",
        "study": "letters",
        "verb": "train",
        "cell": "private",
        "dataset": "alphabet",
        "model": "tiny",
        "mechanism": "dpsgd",
        "split": "test",
        "role": "model",
        "value": 0.75,
        "unit": "fraction",
        "best": "max",
        "n": 100,
        "ci_low": 0.66,
        "ci_high": 0.82,
        "command": ABOUT.command,
        "inputs_sha256": "ab" * 32,
    }
    assert {key: row[key] for key in expected} == expected
    assert table[["partition", "group"]].isna().all(axis=None)
    assert table["n"].isna().tolist() == [False, False, True, True]


def test_an_attack_carries_the_epsilon_of_the_same_cell_and_seed() -> None:
    write_train({0: {"train/epsilon": Measurement(2.0)}, 1: {"test/accuracy": Measurement(0.5)}})
    measurements.write(ATTACK.metrics, ABOUT, {seed: {"test/auc": Measurement(0.6)} for seed in (0, 1)})

    table = long_table("quick", [TRAIN, ATTACK])

    auc = table[table["metric"] == "auc"].set_index("seed")["epsilon"]
    assert auc[0] == 2.0
    assert pd.isna(auc[1])


def test_an_extraction_of_another_name_carries_the_epsilon_of_the_cell_it_attacks() -> None:
    write_train({0: {"train/epsilon": Measurement(2.0)}})
    attack = Source("letters", "extract", "again", "private")
    about = replace(ABOUT, cell="again", verb="extract")
    measurements.write(attack.metrics, about, {0: {"canaries/canary_exposure": Measurement(3.0)}})
    table = long_table("quick", [TRAIN, attack])
    assert table.loc[table["cell"] == "again", "epsilon"].tolist() == [2.0]


def test_a_partition_has_no_epsilon_even_if_a_cell_shares_its_name() -> None:
    partition = Source("letters", "partition", "private")
    write_train({0: {"train/epsilon": Measurement(2.0)}})
    measurements.write(partition.metrics, ABOUT, {0: {"train/parameters": Measurement(50)}})

    table = long_table("quick", [partition, TRAIN])

    assert pd.isna(table.loc[table["verb"] == "partition", "epsilon"]).all()


def test_a_group_is_a_column() -> None:
    write_train({0: {"test/true_positive_rate/vowels": Measurement(0.5)}})

    table = long_table("quick", [TRAIN])

    assert table.loc[0, ["metric", "group"]].tolist() == ["true_positive_rate", "vowels"]
    assert pd.isna(table.loc[0, "best"])


def test_types_do_not_depend_on_the_values() -> None:
    write_train({0: {"test/accuracy": Measurement(0.5)}})

    assert long_table("quick", [TRAIN]).dtypes.equals(long_table("quick", []).dtypes)


def test_a_missing_file_is_named_with_the_way_to_make_it() -> None:
    with pytest.raises(InputError, match=r"letters/private/train\.json: no such file; run `dvc repro`"):
        long_table("quick", [TRAIN])


def content(**changes: Any) -> dict[str, Any]:
    return {"about": asdict(ABOUT), "metrics": {"test/accuracy": {"0": {"value": 0.5} | changes}}}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (content(value=float("nan")), "metrics > test/accuracy > 0 > value: input should be a finite number"),
        (content(ci_low=float("inf")), "0 > ci_low: input should be a finite number"),
        (content(value="high"), "0 > value: input should be a valid number"),
        (content(n=1.5), "0 > n: input should be a valid integer"),
        ({"about": asdict(ABOUT)}, "metrics: field required"),
        ({"about": {"role": "model"}, "metrics": {}}, "about > study: field required"),
        ([], "top level: input should be"),
        ({"about": asdict(ABOUT), "metrics": {"test/charm": {"0": {"value": 1}}}}, "test/charm: is not split/metric"),
        ({"about": asdict(ABOUT), "metrics": {"accuracy": {"0": {"value": 1}}}}, "accuracy: is not split/metric"),
        ({"about": asdict(ABOUT), "metrics": {"test/auc": {"mean": {"value": 1}}}}, "mean: a seed is a whole number"),
    ],
)
def test_a_malformed_file_is_refused(written: Any, problem: str) -> None:
    TRAIN.metrics.parent.mkdir(parents=True)
    TRAIN.metrics.write_text(json.dumps(written), encoding="utf-8")

    with pytest.raises(InputError, match=problem):
        long_table("quick", [TRAIN])
