"""What the engine gains over `dvc repro`: the same repository, from nothing, by both in turn."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from benchmarks.harness import REPEATS, Row, process, row, run, seconds

BIN = Path(sys.executable).parent
DVC, ASSAY = str(BIN / "dvc"), str(BIN / "assay")
BURN = "import time; start = time.process_time()\nwhile time.process_time() - start < 3: pass"
LIMIT_MIB = 500.0
SERVER_SECONDS = 120


def cases() -> list[Row]:
    """Return every row."""
    sleep = _matrix(24, "sleep 1 && echo ${item.i} > out/${item.i}")
    empty = _matrix(200, "echo ${item.i} > out/${item.i}")
    burn = _matrix(12, f"{sys.executable} burn.py && echo ${{item.i}} > out/${{item.i}}")
    rows = []
    with _repository(sleep) as root:
        rows += _sleeping(root)
    with _repository(burn) as root:
        (root / "burn.py").write_text(BURN, encoding="utf-8")
        two = [ASSAY, "run", "--no-prefect", "--jobs", "2"]
        rows.append(_against_repro("12 stages that burn 3 s of CPU, 2 jobs", root, two, 1 / 1.7))
    with _repository(_chain(24)) as root:
        rows.append(_against_repro("chain of 24 empty stages", root, [ASSAY, "run", "--no-prefect"], 1.0))
    for count, target in ((50, 1 / 4), (200, 1 / 4)):
        with _repository(_matrix(count, "echo ${item.i} > out/${item.i}")) as root:
            rows.append(_against_repro(f"matrix of {count} empty stages", root, [ASSAY, "run", "--no-prefect"], target))
    with _repository(empty) as root:
        engine = [ASSAY, "run", "--no-prefect"]
        peak = max(_peak(engine, root) for _ in range(REPEATS))
        rows.append(row("200 empty stages", "limit", [(peak, LIMIT_MIB)], 1.0, "MiB, peak of the engine"))
        plain, dvc = process([ASSAY, "run"], root), process([DVC, "repro"], root)
        plain()
        dvc()
        times = [(seconds(plain), seconds(dvc)) for _ in range(REPEATS)]
        rows.append(row("nothing to do, 200 stages", "dvc repro", times, 1.0))
    return rows


def _sleeping(root: Path) -> list[Row]:
    """Return the rows of 24 stages that sleep: bare, with a server that is up, with a temporary one."""
    bare = [ASSAY, "run", "--no-prefect", "--jobs", "8"]
    flow = [ASSAY, "run", "--jobs", "8"]
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "server already up": [], "temporary server": []}
    with _server(root) as url:
        for _ in range(REPEATS):
            peer = _fresh(root, [DVC, "repro"])
            times["bare"].append((_fresh(root, bare), peer))
            times["server already up"].append((_fresh(root, flow, {"PREFECT_API_URL": url}), peer))
            times["temporary server"].append((_fresh(root, flow), peer))
    targets = {"bare": 1 / 4, "server already up": 1 / 4, "temporary server": 1 / 1.5}
    case = "24 stages that sleep 1 s, 8 jobs"
    return [row(f"{case}, {how}", "dvc repro", measured, targets[how]) for how, measured in times.items()]


def _against_repro(case: str, root: Path, command: list[str], target: float) -> Row:
    times = [(_fresh(root, command), _fresh(root, [DVC, "repro"])) for _ in range(REPEATS)]
    return row(case, "dvc repro", times, target)


def _fresh(root: Path, command: list[str], environment: Mapping[str, str] = MappingProxyType({})) -> float:
    """Time a command where nothing was ever run."""
    _forget(root)
    start = time.perf_counter()
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=os.environ | environment)
    return time.perf_counter() - start


def _forget(root: Path) -> None:
    # .dvc/tmp/assay stays: Prefect's database is made once in a repository's life.
    (root / "dvc.lock").unlink(missing_ok=True)
    for name in ("out", ".dvc/cache"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "out").mkdir()


def _peak(command: list[str], root: Path) -> float:
    """Return the largest resident set of the command's own process, in MiB."""
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    _forget(root)
    said = subprocess.run(
        [sys.executable, "-c", script, *command], cwd=root, check=True, capture_output=True, text=True
    )
    return int(said.stdout.split()[-1]) / (1024 if sys.platform == "linux" else 1024**2)


def _matrix(count: int, command: str) -> str:
    return f"""\
stages:
  item:
    matrix: {{i: {list(range(count))}}}
    cmd: {command}
    deps: [input]
    outs: ["out/${{item.i}}"]
"""


def _chain(count: int) -> str:
    stages = ["stages:"]
    for number in range(count):
        before = f"out/{number - 1}" if number else "input"
        stages.append(f"  s{number}: {{cmd: 'cat {before} > out/{number}', deps: [{before}], outs: [out/{number}]}}")
    return "\n".join(stages)


@contextmanager
def _repository(pipeline: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "dvc.yaml").write_text(pipeline, encoding="utf-8")
        (root / "input").write_text("input", encoding="utf-8")
        for command in (["git", "init", "--quiet"], [DVC, "init", "--quiet"]):
            process(command, root)()
        yield root


@contextmanager
def _server(root: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = root / ".dvc/tmp/server"
    folder.mkdir()
    home = {"PREFECT_HOME": str(folder)}
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command, env=os.environ | home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_for(f"{url}/health")
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    end = time.monotonic() + SERVER_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of this machine
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    run("engine", str(__doc__), cases)
