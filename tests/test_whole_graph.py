"""The whole graph at the smoke profile, in a copy of the project, through the real `dvc repro`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.results.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command: str, cwd: Path) -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository of the project's own files, reproduced at the smoke profile."""
    copy = tmp_path_factory.mktemp("clone") / "assay"
    files = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    run("git", "init", "-q", cwd=copy)
    run("assay", "profile", "use", "smoke", "--force", cwd=copy)
    # Nothing of another profile may be taken for a result of this one.
    shutil.rmtree(copy / "reports" / "metrics")
    shutil.rmtree(copy / "reports" / "curves")
    run("dvc", "repro", cwd=copy)
    run("git", "add", "-A", cwd=copy)
    run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "smoke", cwd=copy)
    return copy


def test_the_graph_has_at_most_35_stages(project: Path) -> None:
    assert 20 < len(run("dvc", "stage", "list", "--name-only", cwd=project).split()) <= 35


def test_a_second_repro_does_nothing_and_status_is_clean(project: Path) -> None:
    output = run("dvc", "repro", cwd=project)

    assert "Running stage" not in output
    assert "up to date" in run("dvc", "status", cwd=project)
    assert run("git", "status", "--porcelain", cwd=project) == ""


def test_bytecode_beside_the_code_makes_nothing_stale(project: Path) -> None:
    run(sys.executable, "-m", "compileall", "-q", "stages", cwd=project)

    assert list(project.glob("stages/__pycache__/*.pyc"))
    assert "up to date" in run("dvc", "status", cwd=project)


def test_the_same_inputs_give_the_same_bytes(project: Path) -> None:
    before = (project / "dvc.lock").read_bytes()

    run("dvc", "repro", "--force", cwd=project)

    assert (project / "dvc.lock").read_bytes() == before
    assert run("git", "status", "--porcelain", cwd=project) == ""


def test_every_metrics_file_says_what_was_measured(project: Path) -> None:
    files = sorted((project / "reports" / "metrics").rglob("*.json"))

    assert len(files) >= 20
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["about"]["command"].startswith("python -m stages."), file
        assert len(content["about"]["inputs_sha256"]) == 64, file
        for key, seeds in content["metrics"].items():
            assert key.split("/")[1] in METRICS, file
            assert "0" in seeds, file


def test_dp_sgd_states_its_guarantee(project: Path) -> None:
    privacy = json.loads((project / "data/models/joint/dpsgd/0/privacy.json").read_text(encoding="utf-8"))

    assert 2.9 < privacy["epsilon"] <= 3.0
    assert privacy["delta"] == 1.0e-5
    assert privacy["adjacency"] == "add or remove one example"
    assert privacy["sampler"]["kind"] == "poisson"


def test_nothing_is_pushed_until_an_output_is_declared_public(project: Path, tmp_path: Path) -> None:
    graph, remote = project / "dvc.yaml", tmp_path / "remote"
    run("dvc", "remote", "add", "-q", "-d", "elsewhere", str(remote), cwd=project)
    try:
        run("dvc", "push", cwd=project)
        by_default = [path for path in remote.rglob("*") if path.is_file()]
        private = "      - reports/results.parquet:\n          push: false\n"
        assert private in graph.read_text(encoding="utf-8")
        public = private.replace("push: false", "push: true")
        graph.write_text(graph.read_text(encoding="utf-8").replace(private, public), encoding="utf-8")
        run("dvc", "push", cwd=project)
        declared = [path.read_bytes() for path in remote.rglob("*") if path.is_file()]
    finally:
        run("git", "checkout", "-q", ".dvc/config", "dvc.yaml", cwd=project)

    assert by_default == []
    assert declared == [(project / "reports" / "results.parquet").read_bytes()]


def test_dvc_itself_shows_metrics_and_the_graph(project: Path) -> None:
    assert "reports/metrics/joint/none/train.json" in run("dvc", "metrics", "show", cwd=project)
    run("dvc", "metrics", "diff", cwd=project)
    assert "attack-joint@none" in run("dvc", "dag", cwd=project)
