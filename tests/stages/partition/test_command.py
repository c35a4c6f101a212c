import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.partitions import read_partition, splits_of

ROOT = Path(__file__).parents[3]
PARAMETERS = """
datasets: {plays: {}, absent: {}}
partitions:
  iid: {dataset: plays, scheme: iid, clients: 5, seeds: [0, 7]}
  skewed: {dataset: plays, scheme: label_shift, alpha: 0.1, clients: 5, seeds: [1]}
  uneven: {dataset: plays, scheme: quantity_shift, beta: 1.0, clients: 5, seeds: [1]}
  power: {dataset: plays, scheme: power_law, exponent: 1.5, least: 3, clients: 20, seeds: [1, 2]}
  authors: {dataset: plays, scheme: natural, column: author, seeds: [3]}
  halves: {dataset: plays, scheme: iid, clients: 5, seeds: [0, 1], membership: {member: 0.4, nonmember: 0.4}}
  dirichlet: {dataset: plays, scheme: label_dirichlet, alpha: 0.5, clients: 5, seeds: [1]}
  shards: {dataset: plays, scheme: shards, shards: 2, clients: 5, seeds: [1], periods: {column: author, count: 3}}
  clusters:
    dataset: plays
    scheme: feature_shift
    alpha: 0.1
    clients: 5
    clusters: 2
    encoder:
      kind: static
      source: package
      package: wordllama
      weights: wordllama/weights/l2_supercat_256.safetensors
      tokenizer: wordllama/tokenizers/l2_supercat_tokenizer_config.json
    max_length: 8
    seeds: [1]
  seasons:
    dataset: plays
    scheme: natural
    column: author
    seeds: [0, 1]
    membership: {member: 0.4, nonmember: 0.4}
    periods: {column: author, count: 3}
  many: {dataset: plays, scheme: iid, clients: 5, seeds: [0], periods: {column: author, count: 4}}
  timeless: {dataset: plays, scheme: iid, clients: 5, seeds: [0], periods: {column: day, count: 4}}
  crowded: {dataset: plays, scheme: iid, clients: 201, seeds: [0]}
  nameless: {dataset: plays, scheme: natural, column: actor, seeds: [0]}
  lists: {dataset: plays, scheme: natural, column: tokens, seeds: [0]}
  gaps: {dataset: plays, scheme: natural, column: group, seeds: [0]}
  flat: {dataset: plays, scheme: label_shift, alpha: 0, clients: 5, seeds: [0]}
  overlapping: {dataset: plays, scheme: iid, clients: 5, seeds: [0], membership: {member: 0.7, nonmember: 0.4}}
  unprepared: {dataset: absent, scheme: iid, clients: 5, seeds: [0]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    plays = pd.DataFrame(
        {
            "example_id": [f"train-{row}" for row in range(200)],
            "text": draws.choice(["to be or not to be", "now is the winter"], 200),
            "label": draws.choice(["comedy", "tragedy"], 200),
            "tokens": [["to", "be"]] * 200,
            "author": draws.choice(["Kyd", "Marlowe", "Webster"], 200),
            "group": [""] * 3 + ["q1"] * 197,
        }
    )
    prepared = tmp_path / "data/prepared/plays"
    prepared.mkdir(parents=True)
    plays.to_parquet(prepared / "train.parquet")
    held_out = ["Kyd", "Webster", "Anon", "Nashe", "Young"]
    for split, authors in (("valid", held_out[:2]), ("test", held_out)):
        rows = plays[: len(authors)].assign(author=authors, group="q1")
        rows["example_id"] = [f"{split}-{row}" for row in range(len(rows))]
        rows.to_parquet(prepared / f"{split}.parquet")
    (tmp_path / "params.yaml").write_text(PARAMETERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name, monkeypatch):
    """Run the verb in this process as `python -m` would; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["partition", "--partition", name])
    try:
        runpy.run_module("stages.partition", run_name="__main__")
    except SystemExit as exit_:
        return exit_.code
    return 0


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_real_command_writes_its_three_files_and_nothing_else(project):
    before = files(project)
    done = subprocess.run(
        [sys.executable, "-m", "stages.partition", "--partition", "halves"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(files(project)) - set(before) == {
        "data/partitions/halves/clients.parquet",
        "reports/metrics/partitions/halves/partition.json",
        "reports/curves/partitions/halves/holdings.csv",
        "reports/timings/partition-halves.json",
    }
    table = pd.read_parquet("data/partitions/halves/clients.parquet")
    assert table.dtypes.astype(str).to_dict() == {
        "seed": "int64",
        "example_id": "str",
        "client_id": "str",
        "split": "str",
        "period": "int64",
    }
    assert not table.duplicated(["seed", "example_id"]).any()
    assert table.groupby(["seed", "split"]).size().to_dict() == {
        (seed, split): size for seed in (0, 1) for split, size in (("member", 80), ("nonmember", 80), ("reserve", 40))
    }
    assert (table["client_id"].notna() == (table["split"] == "member")).all()


def test_metrics_hold_what_was_measured_on_which_input(project, monkeypatch):
    assert run("iid", monkeypatch) == 0
    content = json.loads(Path("reports/metrics/partitions/iid/partition.json").read_text())
    about = content["about"]
    assert len(about.pop("inputs_sha256")) == 64
    assert about == {
        "study": "partitions",
        "cell": "iid",
        "verb": "partition",
        "role": "partition",
        "dataset": "plays",
        "model": None,
        "device": None,
        "partition": "iid",
        "mechanism": "iid",
        "command": "python -m stages.partition --partition iid",
    }
    assert content["metrics"]["train/effective_clients"]["7"] == {
        "value": pytest.approx(5.0),
        "n": 200,
        "ci_low": None,
        "ci_high": None,
    }
    assert content["metrics"]["train/clients"]["0"]["value"] == 5


@pytest.mark.parametrize(
    "name", ["iid", "skewed", "uneven", "authors", "halves", "dirichlet", "shards", "power", "clusters"]
)
def test_the_same_input_gives_the_same_bytes(project, monkeypatch, name):
    assert run(name, monkeypatch) == 0
    first = {path: content for path, content in files(project).items() if "timings" not in path}
    assert run(name, monkeypatch) == 0
    assert {path: content for path, content in files(project).items() if "timings" not in path} == first


def test_natural_clients_are_the_authors_but_the_curve_does_not_name_them(project, monkeypatch):
    assert run("authors", monkeypatch) == 0
    plays = pd.read_parquet("data/prepared/plays/train.parquet")
    table = pd.read_parquet("data/partitions/authors/clients.parquet")
    assert table[table["split"] == "train"]["client_id"].tolist() == plays["author"].tolist()
    curve = pd.read_csv("reports/curves/partitions/authors/holdings.csv")
    assert list(curve.columns) == ["seed", "client", "label", "count"]
    assert curve["count"].sum() == 200
    assert set(curve["seed"]) == {3}
    assert curve.groupby("client")["count"].sum().tolist() == plays["author"].value_counts().tolist()
    assert "Kyd" not in Path("reports/curves/partitions/authors/holdings.csv").read_text()


def test_periods_are_of_the_column_and_not_of_the_clients(project, monkeypatch):
    assert run("shards", monkeypatch) == 0
    plays = pd.read_parquet("data/prepared/plays/train.parquet")
    table = pd.read_parquet("data/partitions/shards/clients.parquet")
    authors = {"Kyd": 0, "Marlowe": 1, "Webster": 2}
    assert table[table["split"] == "train"]["period"].tolist() == [authors[author] for author in plays["author"]]
    assert table.groupby("client_id")["period"].nunique().min() > 1


@pytest.mark.parametrize(
    ("name", "clients", "periods"),
    [
        ("authors", ["Kyd", "Webster", "Anon", "Nashe", "Young"], [0, 0, 0, 0, 0]),
        ("seasons", ["Kyd", "Webster", "Anon", "Nashe", "Young"], [0, 2, 0, 1, 2]),
        ("shards", [None] * 5, [0, 2, 0, 1, 2]),
    ],
)
def test_held_out_examples_know_their_client_and_period_and_are_of_no_seed(
    project, monkeypatch, name, clients, periods
):
    assert run(name, monkeypatch) == 0
    table = pd.read_parquet(f"data/partitions/{name}/clients.parquet")
    assert table["seed"].isna().tolist() == table["split"].isin(["valid", "test"]).tolist()
    for split, count in (("valid", 2), ("test", 5)):
        rows = table[table["split"] == split]
        assert rows["example_id"].tolist() == [f"{split}-{row}" for row in range(count)]
        assert rows["client_id"].astype(object).where(rows["client_id"].notna(), None).tolist() == clients[:count]
        assert rows["period"].tolist() == periods[:count]


@pytest.mark.parametrize(
    ("name", "seed", "dealt"), [("authors", 3, "train"), ("seasons", 1, "member"), ("shards", 1, "train")]
)
def test_what_is_measured_and_what_a_seed_deals_is_of_training_examples_alone(project, monkeypatch, name, seed, dealt):
    def read():
        reports = {path: content for path, content in files(project / "reports").items() if "timings" not in path}
        return reports, read_partition(name, seed, dealt), splits_of(name, seed, ids)

    ids = pd.read_parquet("data/prepared/plays/train.parquet")["example_id"].to_numpy(dtype=object)
    assert run(name, monkeypatch) == 0
    with_few, held, splits = read()
    assert set(held["example_id"]) <= set(ids)
    assert held["client_id"].notna().all()
    for split in ("valid", "test"):
        path = Path(f"data/prepared/plays/{split}.parquet")
        pd.read_parquet(path)[:1].to_parquet(path)
    assert run(name, monkeypatch) == 0
    with_fewer, still_held, same_splits = read()
    assert with_few == with_fewer
    pd.testing.assert_frame_equal(held, still_held)
    assert splits.tolist() == same_splits.tolist()


@pytest.mark.parametrize("name", ["iid", "skewed", "halves", "clusters", "power"])
def test_other_partitions_read_and_hold_training_examples_alone(project, monkeypatch, name):
    for split in ("valid", "test"):
        Path(f"data/prepared/plays/{split}.parquet").unlink()
    assert run(name, monkeypatch) == 0
    table = pd.read_parquet(f"data/partitions/{name}/clients.parquet")
    assert table["seed"].dtype == np.int64
    assert not set(table["split"]) & {"valid", "test"}


def test_clients_of_shifted_features_are_of_like_texts(project, monkeypatch):
    assert run("clusters", monkeypatch) == 0
    plays = pd.read_parquet("data/prepared/plays/train.parquet")
    client = pd.read_parquet("data/partitions/clusters/clients.parquet")["client_id"]
    shares = pd.crosstab(client, plays["text"], normalize="index").max(axis=1)
    assert (shares == 1).sum() >= 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "params.yaml: partitions: has no `nobody`; it has: iid, skewed"),
        ("crowded", "params.yaml: partitions.crowded.clients: 201 clients are more than the 200 examples"),
        ("nameless", "has no text column `actor`; it has: example_id, text, label, author, group"),
        ("lists", "has no text column `tokens`"),
        ("gaps", "params.yaml: partitions.gaps.column: `group` is empty in 3 rows"),
        ("flat", "params.yaml: partitions.flat.alpha: 0 is not allowed"),
        ("overlapping", "params.yaml: partitions.overlapping.membership: "),
        ("many", "params.yaml: partitions.many.periods.count: a period is empty: 3 values"),
        ("timeless", "params.yaml: partitions.timeless.periods.column: data/prepared/plays/train.parquet has no text"),
        ("unprepared", "data/prepared/absent/train.parquet: no such file; run `dvc repro`"),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(project, monkeypatch, capsys, name, message):
    before = files(project)
    assert run(name, monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert files(project) == before
    assert not Path("data/partitions").exists()
    assert not Path("reports").exists()


def test_a_wrong_input_keeps_the_partition_that_is_there(project, monkeypatch, capsys):
    assert run("iid", monkeypatch) == 0
    before = files(project)
    Path("params.yaml").write_text(PARAMETERS.replace("iid, clients: 5", "iid, clients: 999"))
    assert run("iid", monkeypatch) == 2
    assert files(project) | {"params.yaml": b""} == before | {"params.yaml": b""}
