"""A project folder with one data set, `mine`, and the command run on it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.common import command
from stages.prepare.__main__ import main


class Project:
    """The current folder as a user's project; `run` is `python -m stages.prepare --dataset mine` in-process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.settings: dict[str, Any] = {
            "source": "file",
            "watch": "texts",
            "format": "csv",
            "files": {"train": [{"path": "texts/train.csv"}]},
            "columns": {"text": "text", "label": "label"},
            "splits": {"valid": 0.2, "test": 0.2},
            "seed": 0,
            "licence": "my own",
        }

    def file(self, name: str, content: str | bytes) -> None:
        path = Path("texts") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def declare(self, **changes: Any) -> None:
        """Change settings; None takes one away."""
        self.settings = {key: value for key, value in (self.settings | changes).items() if value is not None}

    def run(self, name: str = "mine") -> tuple[int, str]:
        """Return the exit code and what stands on stderr."""
        Path("params.yaml").write_text(json.dumps({"datasets": {"mine": self.settings}}))
        self.monkeypatch.setattr("sys.argv", ["prepare", "--dataset", name])
        self.capsys.readouterr()
        try:
            command.run(main)
        except SystemExit as end:
            return int(end.code or 0), self.capsys.readouterr().err
        return 0, self.capsys.readouterr().err

    def refused(self, name: str = "mine") -> str:
        """Run what must fail as a user's mistake should, leaving nothing, and return the message."""
        code, error = self.run(name)
        assert code == 2
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert not [path for path in Path("data").rglob("*") if path.name != "prepared"]
        return error

    def prepared(self) -> dict[str, pd.DataFrame]:
        """Run what must succeed and return the tables."""
        assert self.run() == (0, "")
        return {split: pd.read_parquet(f"data/prepared/mine/{split}.parquet") for split in ("train", "valid", "test")}

    def card(self) -> dict[str, Any]:
        card: dict[str, Any] = json.loads(Path("data/prepared/mine/card.json").read_text())
        return card

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(Path("data/prepared/mine").iterdir())}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(monkeypatch, capsys)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Twenty rows, two labels."""
    return pd.DataFrame({"text": [f"sentence {i}" for i in range(20)], "label": ["odd", "even"] * 10})
