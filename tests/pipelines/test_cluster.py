"""A Ray cluster of two nodes on this machine, each with a clone of its own, and a folder as DVC's remote."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipelines.processes import until

BIN = Path(sys.executable).parent
NODES = ("a", "b")
PIPELINE = """\
stages:
  first:
    cmd: cat input > first && echo $ASSAY_CLONE >> {notes}/first
    deps: [input]
    outs: [first]
  work:
    matrix: {{i: [0, 1, 2]}}
    cmd: >-
      echo $ASSAY_CLONE >> {notes}/work-${{item.i}} && sleep {seconds} && cat first > out-${{item.i}} &&
      echo ${{item.i}} >> out-${{item.i}} && echo '{{"a":${{item.i}}}}' > m-${{item.i}}.json
    deps: [first]
    params: [rate]
    outs: ["out-${{item.i}}"]
    metrics: ["m-${{item.i}}.json": {{cache: false}}]
  private:
    cmd: echo only here > private && echo head$ASSAY_CLONE >> {notes}/private
    deps: [out-0]
    outs: [private: {{push: false}}]
  last:
    cmd: cat out-0 out-1 private > last && echo head$ASSAY_CLONE >> {notes}/last
    deps: [out-0, out-1, private]
    outs: [last]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The address, the folder in which each node's clone is expected, and the nodes by name."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("clones")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {name: made.add_node(num_cpus=1, env_vars={"ASSAY_CLONE": str(folder / name)}) for name in NODES}
    yield made.address, folder, nodes
    made.shutdown()


def set_up(folder: Path, clones: Path, seconds: float) -> Path:
    """Commit the pipeline at the head and clone it for each node."""
    for path in (folder / "notes", folder / "remote"):
        path.mkdir(parents=True)
    head = folder / "head"
    head.mkdir()
    (head / "dvc.yaml").write_text(PIPELINE.format(notes=folder / "notes", seconds=seconds))
    (head / "input").write_text("hello\n")
    (head / "params.yaml").write_text("rate: 1.0e-5\n")
    for command in (
        "git init -q",
        "dvc init -q",
        f"dvc remote add -q -d store {folder / 'remote'}",
        "git add -A",
        "git -c user.name=test -c user.email=test@localhost commit -qm all",
    ):
        call(command, head)
    for name in NODES:
        call(f"rm -rf {clones / name}", head)
        call(f"git clone -q {head} {clones / name}", head)
    return head


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    said = run(command.split(), folder)
    assert said.returncode == 0, said.stdout + said.stderr
    return said


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=variables(), capture_output=True, text=True, timeout=180)


def variables() -> dict[str, str]:
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


def assay(address: str) -> list[str]:
    return ["assay", "run", "--no-prefect", "--runner", "ray", "--address", address, "--jobs", "3"]


def notes(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().split() for path in (folder / "notes").iterdir()}


def test_nodes_run_what_may_travel_and_the_head_the_rest(cluster, tmp_path):
    address, clones, _ = cluster
    head = set_up(tmp_path, clones, seconds=1)
    said = run(assay(address), head)
    assert said.returncode == 0, said.stdout + said.stderr
    where = notes(tmp_path)
    on_nodes = {Path(place).name for name in ("work-0", "work-1", "work-2") for place in where[name]}
    assert on_nodes == set(NODES)
    assert where["private"] == where["last"] == ["head"]

    # The remote holds what travelled and nothing that is private.
    remote = {path.parent.name + path.name for path in (tmp_path / "remote/files/md5").glob("*/*")}
    assert md5(head / "first") in remote
    assert md5(head / "private") not in remote

    # As serial `dvc repro` would have left it.
    assert "up to date" in call("dvc status", head).stdout
    ours = (head / "dvc.lock").read_bytes()
    twin = tmp_path / "twin"
    call(f"git clone -q {head} {twin}", tmp_path)
    call("dvc repro -q", twin)
    assert (twin / "dvc.lock").read_bytes() == ours
    assert (twin / "m-2.json").read_bytes() == (head / "m-2.json").read_bytes()


def test_what_an_earlier_run_left_on_the_remote_is_fetched_and_not_made_again(cluster, tmp_path):
    address, clones, _ = cluster
    head = set_up(tmp_path, clones, seconds=0)
    call("dvc repro -q", head)
    call("dvc push -q --run-cache", head)
    call("git add -A", head)
    call("git -c user.name=test -c user.email=test@localhost commit -qm made", head)
    for name in NODES:
        call("git pull -q", clones / name)
    made = notes(tmp_path)
    call("rm -rf .dvc/cache first out-0 out-1 out-2 private last", head)
    said = run([*assay(address), "--pull"], head)
    assert said.returncode == 0, said.stdout + said.stderr
    # Only what may not be on the remote was made again, and what reads from it is the same as before.
    again = {name for name, places in notes(tmp_path).items() if places != made[name]}
    assert again == {"private"}
    assert "up to date" in call("dvc status", head).stdout


def test_edits_that_are_not_committed_are_refused(cluster, tmp_path):
    address, clones, _ = cluster
    head = set_up(tmp_path, clones, seconds=0)
    (head / "params.yaml").write_text("rate: 2.0e-5\n")
    said = run(assay(address), head)
    assert said.returncode == 2
    assert said.stderr == (
        "error: params.yaml: has edits that are not committed; commit first: nodes work at a commit\n"
    )


def test_a_clone_at_another_commit_is_refused(cluster, tmp_path):
    address, clones, _ = cluster
    head = set_up(tmp_path, clones, seconds=0)
    call("git -c user.name=test -c user.email=test@localhost commit -q --allow-empty -m later", head)
    said = run(assay(address), head)
    assert said.returncode == 1
    assert "the run at" in said.stderr
    assert not (head / "dvc.lock").exists()


def test_a_stage_whose_node_is_killed_runs_on_another(cluster, tmp_path):
    address, clones, nodes = cluster
    head = set_up(tmp_path, clones, seconds=4)
    process = subprocess.Popen(
        assay(address), cwd=head, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until(lambda: len([name for name in notes(tmp_path) if name.startswith("work")]) == 2, "both nodes work")
    # Ray's processes on the node; what they started must end by itself.
    raylet = psutil.Process(nodes["b"].all_processes["raylet"][0].process.pid)
    for each in [raylet, *raylet.children()]:
        each.kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "it is sent to another" in said
    assert len({name for name in notes(tmp_path) if name.startswith("work")}) == 3
    assert "up to date" in call("dvc status", head).stdout
    # Nothing of the lost stage lives on.
    assert not [each for each in psutil.process_iter() if in_clone(each, clones / "b")]


def test_stopping_the_run_ends_stages_on_all_nodes(cluster, tmp_path):
    address, clones, _ = cluster
    head = set_up(tmp_path, clones, seconds=600)
    process = subprocess.Popen(assay(address), cwd=head, env=variables(), stdout=subprocess.PIPE, text=True)
    try:
        # One node may be dead since an earlier test.
        until(lambda: any(name.startswith("work") for name in notes(tmp_path)), "a stage runs on a node")
        assert in_clones(clones)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        until(lambda: not in_clones(clones), "nothing runs in the clones")
    finally:
        process.kill()
        process.communicate()
    # What was finished is recorded, and nothing else.
    lock = (head / "dvc.lock").read_text()
    assert "first" in lock
    assert "out-" not in lock


def in_clones(clones: Path) -> list[list[str]]:
    """Return the command lines of what runs in the clones of the nodes."""
    return [each.cmdline() for each in psutil.process_iter() if any(in_clone(each, clones / name) for name in NODES)]


def in_clone(process: psutil.Process, clone: Path) -> bool:
    try:
        return Path(process.cwd()) == clone
    except (psutil.Error, OSError):
        return False


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
