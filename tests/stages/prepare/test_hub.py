"""A local folder laid out like a repository of the hub, read by the real `datasets`."""

import errno
from pathlib import Path
from typing import Any

import datasets
import pytest

from stages.common.errors import InputError
from stages.prepare.settings import dataset_settings
from tests.stages.prepare.conftest import Project

README = """---
configs:
- config_name: plain
  data_files:
  - {split: train, path: data/train-*.parquet}
  - {split: validation, path: data/validation-*.parquet}
  default: true
- config_name: small
  data_files:
  - {split: train, path: data/validation-*.parquet}
---
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(project: Project) -> Project:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "intent": datasets.ClassLabel(names=["ask", "tell"]),
            "words": datasets.List(datasets.Value("string")),
            "slots": datasets.List(datasets.ClassLabel(names=["O", "B-x"])),
        }
    )
    folder = Path("theirs")
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    for split, start, stop in (("train", 0, 20), ("validation", 20, 26)):
        rows = [
            {"text": f"word {i}", "intent": i % 2, "words": ["word", str(i)], "slots": [0, 1]}
            for i in range(start, stop)
        ]
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    project.settings = {
        "source": "hub",
        "watch": "theirs",
        "repository": "theirs",
        "files": {"train": "train", "test": "validation"},
        "columns": {"text": "text", "label": "intent", "tokens": "words", "tags": "slots"},
        "splits": {"valid": 0.1},
        "seed": 0,
        "licence": "theirs",
    }
    return project


def test_splits_labels_and_tags(repository: Project) -> None:
    tables = repository.prepared()
    assert {split: len(table) for split, table in tables.items()} == {"train": 18, "valid": 2, "test": 6}
    assert list(tables["test"]["text"]) == [f"word {i}" for i in range(20, 26)]
    assert list(tables["test"]["label"]) == ["ask", "tell"] * 3
    assert list(tables["test"]["tokens"][0]) == ["word", "20"]
    assert list(tables["test"]["tags"][0]) == ["O", "B-x"]


def test_card(repository: Project) -> None:
    repository.prepared()
    source = repository.card()["source"]
    assert source["repository"] == "theirs"
    assert source["splits"] == {"train": "train", "test": "validation"}
    paths = ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"]
    assert [file["path"] for file in source["files"]] == paths
    assert all(len(file["sha256"]) == 64 for file in source["files"])
    assert str(Path.cwd()) not in Path("data/prepared/mine/card.json").read_text()


def test_absolute_folder_is_shown_by_its_name(repository: Project) -> None:
    repository.prepared()
    relative = repository.bytes()
    repository.declare(repository=str(Path("theirs").absolute()))
    repository.prepared()
    assert repository.bytes() == relative


def test_configuration_and_slice(repository: Project) -> None:
    repository.declare(configuration="small", files={"train": "train[:5]"}, splits={"valid": 0.2, "test": 0.2})
    assert sum(map(len, repository.prepared().values())) == 5


def test_changed_folder_is_read_anew(repository: Project) -> None:
    """No table of an earlier reading is taken from a cache."""
    repository.prepared()
    path = Path("theirs/data/validation-00000-of-00001.parquet")
    changed = datasets.Dataset.from_parquet(str(path), keep_in_memory=True).select(range(3))
    changed.to_parquet(path)
    assert len(repository.prepared()["test"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"train": "train", "test": "exam"}}, 'theirs: Unknown split "exam"'),
        ({"configuration": "huge"}, "BuilderConfig 'huge' not found"),
        ({"columns": {"text": "text", "label": "topic"}}, "split train: has no column `topic`; it has: text, intent"),
        (
            {"files": {"train": "train", "test": "validation[:0]"}},
            'theirs: Instruction "validation[:0]" corresponds to no',
        ),
        ({"revision": COMMIT}, "a local folder has no `revision`"),
        ({"watch": "elsewhere"}, "`watch` must be theirs or a folder that holds it"),
        ({"repository": "absent"}, "neither a folder here nor a hub id"),
        ({"repository": "some/one"}, "a hub id needs `revision`, a commit's 40 hex digits"),
        ({"repository": "some/one", "revision": "main"}, "a hub id needs `revision`, a commit's 40 hex digits"),
    ],
)
def test_wrong_settings(repository: Project, change: dict[str, Any], message: str) -> None:
    repository.declare(**change)
    assert message in repository.refused()


def test_broken_file(repository: Project) -> None:
    Path("theirs/data/train-00000-of-00001.parquet").write_text("not parquet")
    assert "theirs: " in repository.refused()


def test_empty_folder(repository: Project) -> None:
    Path("bare").mkdir()
    repository.declare(repository="bare", watch="bare")
    assert "bare: " in repository.refused()


def test_no_space_left(repository: Project) -> None:
    """`datasets` says so in an error of its own, without the number."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    repository.monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write_table", fail)
    assert "no space left" in repository.refused()


def test_hub_cannot_be_reached(repository: Project) -> None:
    repository.monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    repository.declare(repository="some/one", revision=COMMIT)
    assert "check repository, revision, configuration, splits and network" in repository.refused()


def test_pinned_hub_id_is_valid(repository: Project) -> None:
    repository.declare(repository="some/one", revision=COMMIT)
    settings = dataset_settings({"datasets": {"mine": repository.settings}}, "mine")
    assert settings.source == "hub"
    with pytest.raises(InputError, match="no such setting"):
        dataset_settings({"datasets": {"mine": {**repository.settings, "format": "csv"}}}, "mine")
