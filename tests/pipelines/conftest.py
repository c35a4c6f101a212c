import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# DVC logs to the stdout it finds when it is imported: this one lives as long as the tests, a test's own does not.
from dvc.repo import Repo

from pipelines import cli, execution, session

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
Dvc = Callable[..., subprocess.CompletedProcess[str]]
Project = Callable[..., Path]
Assay = Callable[..., tuple[int, str, str]]
Reproduce = Callable[..., dict[str, dict[str, Any]]]

CHAIN = """\
stages:
  first:
    cmd: python -c "open('a', 'w').write(open('input').read().strip())"
    deps: [input]
    outs: [a]
  middle-toy:
    matrix:
      variant: [x, y]
    cmd: echo cell ${item.variant} && cat a > b-${item.variant}
    deps: [a]
    params: [rate]
    outs: ["b-${item.variant}"]
  last:
    cmd: cat b-x b-y > c
    deps: [b-x, b-y]
    outs: [c]
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:_NoneStep.value:DeprecationWarning:dvc")


@pytest.fixture(autouse=True, scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Write files, start a git and DVC repository around them, and make it the current folder."""

    def make(files: dict[str, str], folder: str = "project") -> Path:
        root = tmp_path / folder
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        subprocess.run(["git", "init", "--quiet", str(root)], check=True)
        Repo.init(str(root)).close()
        monkeypatch.chdir(root)
        # As with an activated environment, of which the stages take `python`.
        monkeypatch.setenv("PATH", PATH)
        return root

    return make


@pytest.fixture
def chain(project: Project) -> Path:
    """Four stages in a line of three: first, two cells in the middle, last."""
    return project({"dvc.yaml": CHAIN, "input": "one\n", "params.yaml": "rate: 1.0e-5\n"})


@pytest.fixture
def checkout(project: Project) -> Path:
    """The real settings and profiles of this project, over a graph of one stage."""
    root = project({"dvc.yaml": "stages:\n  only-joint: {cmd: date > now, outs: [now]}\n"})
    shutil.copy(ROOT / "profiles/quick.yaml", root / "params.yaml")
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in ("profiles", "requirements"):
        shutil.copytree(ROOT / name, root / name)
    (root / "stages/common").mkdir(parents=True)
    return root


@pytest.fixture
def dvc() -> Dvc:
    """Run the dvc command as a user would, with the stages' `python` on the path."""

    def call(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=root,
            env=os.environ | {"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def assay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Assay:
    """Call the command line in this process; return exit status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str]) -> Reproduce:
    """Run the engine in the current folder as `assay run --no-prefect --json` does; return the outcomes by stage."""

    def call(*targets: str, **options: Any) -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        execution.run(session.Request(targets, **options), dry_run=False, prefect=False, as_json=True)
        return {outcome["stage"]: outcome for outcome in json.loads(capsys.readouterr().out)}

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A git and DVC repository without stages, and a place for DVC's state of this module's repositories."""
    root = tmp_path_factory.mktemp("template")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    Repo.init(str(root)).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setenv("SHELL", "/bin/sh")
        yield root


@pytest.fixture
def copies(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The same repository twice: one for `dvc repro`, one for `assay run`."""
    roots = tmp_path / "serial/project", tmp_path / "parallel/project"
    for root in roots:
        shutil.copytree(template, root, symlinks=True)
    monkeypatch.chdir(tmp_path)
    return roots
