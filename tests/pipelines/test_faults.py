"""What a fault leaves: no process, nothing false in dvc.lock, no finished work undone, and a next run that completes.

Each fault is tried once. `FAULT_TRIES=20 pytest tests/pipelines/test_faults.py` tries them more often, at
other moments, and prints what was found.
"""

import contextlib
import errno
import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import zc.lockfile
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipelines import committer, workplace
from pipelines.execution import run
from pipelines.session import Request
from stages.common.errors import InputError

TRIES = int(os.environ.get("FAULT_TRIES", "1"))
# A stage that ended so long before a fault counts as finished, whatever the engine said of it by then.
MARGIN = 2.0
STAGE = """\
  {name}:
    cmd: echo {name} >> "$DVC_ROOT/.dvc/tmp/began" && {work} && cat {deps} > {name} &&
      echo {name} $(date +%s.%N) >> "$DVC_ROOT/.dvc/tmp/ended"
    deps: [{listed}]
    outs: [{name}]
"""
NAP = """if [ -e "$DVC_ROOT/.dvc/tmp/detach" ]; then setsid sleep 60 > /dev/null 2>&1 & fi &&
      sleep $(cat "$DVC_ROOT/.dvc/tmp/nap")"""

Tally = Callable[..., None]
pytestmark = pytest.mark.parametrize("attempt", range(TRIES))


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Add to the table that is printed at the end: fault, tries, stages finished before it, lost, orphans."""
    table: dict[str, Counter[str]] = {}

    def add(fault: str, finished: int, lost: int, orphans: int) -> None:
        table.setdefault(fault, Counter()).update(tries=1, finished=finished, lost=lost, orphans=orphans)

    yield add
    if TRIES > 1 and table:
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line("\n" + f"{'fault':32}" + "".join(f"{name:>10}" for name in next(iter(table.values()))))
        for fault, counts in table.items():
            reporter.write_line(f"{fault:32}" + "".join(f"{count:10}" for count in counts.values()))


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setenv("SHELL", "/bin/sh")
        # What the engine said must be in its log when it is killed.
        patch.setenv("PYTHONUNBUFFERED", "1")
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two quick stages, two that take as long as .dvc/tmp/nap says, and one that reads from these."""
    stages = [("first", "true", "source"), ("free", "true", "source")]
    stages += [("slow-a", NAP, "first"), ("slow-b", NAP, "first"), ("last", "true", "slow-a slow-b")]
    return make(tmp_path / "project", stages)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty short stages, in twenty lines of three."""
    stages = []
    for line in range(20):
        stages += [(f"a{line}", "sleep 0.05", "source"), (f"b{line}", "sleep 0.05", f"a{line}")]
        stages += [(f"c{line}", "sleep 0.05", f"b{line}")]
    return make(tmp_path / "project", stages)


def test_engine_is_killed(root: Path, tally: Tally, attempt: int) -> None:
    # A process that leaves its group is found all the same.
    (root / ".dvc/tmp/detach").touch()
    engine = start(root)
    wait_for(lambda: {"slow-a", "slow-b"} <= noted(root, "began").keys() and len(marked(root)) >= 6)
    (root / ".dvc/tmp/detach").unlink()
    time.sleep(random.random())
    engine.kill()
    assert engine.wait() == -signal.SIGKILL
    check(root, "kill -9 of the engine", tally, at_least={"first"})


def test_process_of_a_stage_is_killed(root: Path, tally: Tally, attempt: int) -> None:
    set_nap(root, 2)
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    name, reason = [("/bin/sh", "killed by signal 9"), ("sleep", "exit code 137")][attempt % 2]
    victim = random.choice(commands(root, name))
    stage = victim.environ()["DVC_STAGE"]
    victim.kill()
    assert engine.wait(30) == 1
    assert f"{stage} failed: {reason}" in said(root)
    check(root, "kill -9 of a stage's process", tally, at_least={"first", "free", "slow-a", "slow-b"} - {stage})


def test_engine_is_killed_while_it_records(many: Path, tally: Tally, attempt: int) -> None:
    kept: dict[str, int] = {}
    for _ in range(3):
        before = len(lines(many, "ended"))
        engine = start(many)
        wait_for(lambda engine=engine, before=before: len(lines(many, "ended")) > before or engine.poll() is not None)
        time.sleep(random.uniform(0, 1.5))
        engine.kill()
        # Twenty end at about the same time and are recorded one after the other: the word of the engine counts.
        kept = finished(many, margin=math.inf) | kept
        engine.wait()
        assert not left(many)
        check_record(many)
    check(many, "kill -9 while it records", tally, at_least=set(), kept=kept)


def test_watchdog_is_killed_and_then_the_engine(root: Path, tally: Tally, attempt: int) -> None:
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    (dog,) = watchdogs(root)
    dog.kill()
    wait_for(lambda: [other.pid for other in watchdogs(root) if other.pid != dog.pid])
    time.sleep(random.random() / 2)
    engine.kill()
    engine.wait()
    check(root, "kill -9 of the watchdog", tally, at_least={"first", "free"})


def test_engine_and_watchdog_are_killed_together(root: Path, tally: Tally, attempt: int) -> None:
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    for process in [*watchdogs(root), psutil.Process(engine.pid)]:
        process.kill()
    engine.wait()
    # Nobody is left to end them but the next run.
    assert len(commands(root, "sleep")) == 2
    check(root, "kill -9 of engine and watchdog", tally, at_least={"first", "free"}, ends_orphans=True)


def test_what_dvc_wrote_after_a_kill_holds(root: Path, tally: Tally, attempt: int) -> None:
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2 and recorded(root).keys() == {"first", "free"})
    engine.kill()
    engine.wait()
    (root / "source").write_text("edited\n")
    set_nap(root, 0)
    with contextlib.chdir(root), Repo() as repo:
        repo.reproduce()
    before = noted(root, "began")
    check(root, "kill -9, then dvc repro", tally, at_least={"first", "free"}, kept=before)
    assert noted(root, "began") == before
    assert (root / "last").read_text() == "edited\n" * 2


def test_interrupt_lets_what_runs_end(root: Path, tally: Tally, attempt: int) -> None:
    set_nap(root, 2)
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    time.sleep(random.random())
    engine.send_signal(signal.SIGINT)
    assert engine.wait(30) == 1
    assert noted(root, "began") == Counter(["first", "free", "slow-a", "slow-b"])
    check(root, "SIGINT once", tally, at_least={"first", "free", "slow-a", "slow-b"})
    assert noted(root, "began")["last"] == 1


def test_second_interrupt_ends_what_runs(root: Path, tally: Tally, attempt: int) -> None:
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    for _ in range(2):
        time.sleep(random.random() / 2)
        engine.send_signal(signal.SIGINT)
    assert engine.wait(30) == 1
    check(root, "SIGINT twice", tally, at_least={"first", "free"})


def test_terminate_ends_what_runs(root: Path, tally: Tally, attempt: int) -> None:
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    time.sleep(random.random())
    engine.terminate()
    assert engine.wait(30) == 128 + signal.SIGTERM
    check(root, "SIGTERM", tally, at_least={"first", "free"})


def test_stage_fails(root: Path, tally: Tally, attempt: int) -> None:
    set_nap(root, 1)
    definition = root / "dvc.yaml"
    good = definition.read_text()
    definition.write_text(good.replace("echo slow-a >>", "sleep 0.5 && exit 3; echo slow-a >>"))
    engine = start(root)
    assert engine.wait(30) == 1
    assert "slow-a failed: exit code 3" in said(root)
    definition.write_text(good)
    check(root, "a stage fails", tally, at_least={"first", "free", "slow-b"})


def test_lock_of_dvc_is_held(root: Path, tally: Tally, attempt: int) -> None:
    set_nap(root, 1)
    moment = random.choice(["before", "while"])
    lock = zc.lockfile.LockFile(str(root / ".dvc/tmp/lock")) if moment == "before" else None
    engine = start(root)
    if not lock:
        wait_for(lambda: len(commands(root, "sleep")) == 2)
        lock = take_lock(root)
    try:
        # DVC itself would give up after three seconds.
        wait_for(lambda: "waiting for another DVC process" in said(root))
        time.sleep(random.random())
        assert engine.poll() is None
    finally:
        lock.close()
    assert engine.wait(30) == 0
    check(root, "DVC's lock is held", tally, at_least={"first", "free", "slow-a", "slow-b", "last"})


def test_second_engine_is_refused(root: Path, tally: Tally, attempt: int) -> None:
    set_nap(root, 2)
    engine = start(root)
    wait_for(lambda: len(commands(root, "sleep")) == 2)
    second = assay(root)
    assert second.returncode == 2
    assert f"another `assay run` is at work here (process {engine.pid})" in second.stderr
    assert engine.wait(30) == 0
    check(root, "two engines", tally, at_least={"first", "free", "slow-a", "slow-b", "last"})


def test_disk_is_full(many: Path, tally: Tally, attempt: int, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    try:
        root = disk / "project"
        subprocess.run(["cp", "-r", many, root], check=True)
        engine = start(root)
        wait_for(lambda: noted(root, "ended"))
        time.sleep(random.uniform(0, 1.5))
        fill(disk / "ballast")
        code = engine.wait(60)
        (disk / "ballast").unlink()
        assert code in (0, 1, 2), said(root)
        assert "Traceback" not in said(root), said(root)
        check(root, "full disk", tally, at_least=set())
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("call", range(1, 12, 3))
def test_write_fails(root: Path, tally: Tally, attempt: int, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    refused: list[str] = []

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call + attempt % 3:
            refused.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    set_nap(root, 0)
    monkeypatch.setattr(workplace.os, "fsync", fsync)
    monkeypatch.setattr(committer, "INTERVAL", 0.0)
    monkeypatch.chdir(root)
    code = 2
    with contextlib.suppress(InputError):
        code = run(Request(jobs=3), dry_run=False, prefect=False, as_json=True)
    # What cannot be entered in the journal has failed; dvc.lock is tried again.
    assert code or not any(name.endswith(".yaml.incomplete") for name in refused)
    monkeypatch.undo()
    check(root, "a write fails", tally, at_least=set())


def make(root: Path, stages: list[tuple[str, str, str]]) -> Path:
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    Repo.init(str(root)).close()
    (root / "source").write_text("source\n")
    text = "stages:\n"
    for name, work, deps in stages:
        text += STAGE.format(name=name, work=work, deps=deps, listed=", ".join(deps.split()))
    (root / "dvc.yaml").write_text(text)
    set_nap(root, 60)
    return root


def set_nap(root: Path, seconds: float) -> None:
    (root / ".dvc/tmp/nap").write_text(str(seconds))


def start(root: Path) -> subprocess.Popen[bytes]:
    """Start the engine; what it says is added to .dvc/tmp/said."""
    with (root / ".dvc/tmp/said").open("ab") as output:
        return subprocess.Popen(
            [Path(sys.executable).parent / "assay", "run", "--no-prefect", "--jobs", "3"],
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def assay(root: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "assay", "run", "--no-prefect", "--jobs", "3"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)


def check(
    root: Path,
    fault: str,
    tally: Tally,
    at_least: set[str],
    kept: dict[str, int] | None = None,
    ends_orphans: bool = False,
) -> None:
    """Look at what a fault left, run again, and look at that.

    Args:
        root: The repository.
        fault: What to call it in the table.
        tally: Takes what was found.
        at_least: Stages that must have ended.
        kept: How often each finished stage began before the fault; if not given, the fault was just now.
        ends_orphans: Only the next run ends what the fault left.
    """
    kept = finished(root) if kept is None else kept
    orphans = [] if ends_orphans else left(root)
    if not ends_orphans:
        check_record(root)
    assert at_least <= noted(root, "ended").keys()
    set_nap(root, 0)
    again = assay(root)
    assert again.returncode == 0, again.stdout + again.stderr
    orphans += left(root) if ends_orphans else []
    check_record(root)
    began = noted(root, "began")
    lost = [name for name, times in kept.items() if began[name] > times]
    with Repo(str(root)) as repo:
        assert repo.status() == {}
        assert len(recorded(root)) == len(repo.index.stages)
    assert not [path for path in root.rglob("*.incomplete") if ".dvc" not in path.parts]
    tally(fault, len(kept), len(lost), len(orphans))
    assert (lost, orphans) == ([], [])


def finished(root: Path, margin: float = MARGIN) -> dict[str, int]:
    """Return how often the stages began that the engine called done, or that ended `margin` seconds ago."""
    names = {line.partition(":")[0] for line in said(root).splitlines() if ": ran" in line}
    for name, when in (line.split() for line in lines(root, "ended")):
        if float(when) < time.time() - margin:
            names.add(name)
    # Such as one whose outputs the full disk did not take.
    names -= {line.partition(":")[0] for line in said(root).splitlines() if ": failed" in line}
    began = noted(root, "began")
    return {name: began[name] for name in names}


def check_record(root: Path) -> None:
    """Check that all of dvc.lock and the journal is readable, and that it says of files what they are."""
    for name, stage in recorded(root).items():
        for item in [*stage["deps"], *stage["outs"]]:
            path = root / item["path"]
            assert hashlib.md5(path.read_bytes()).hexdigest() == item["md5"], (name, item)


def recorded(root: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    yaml = YAML(typ="safe", pure=True)
    found = {}
    for path in [*(root / ".dvc/tmp/assay/journal").glob("*.yaml"), root / "dvc.lock"]:
        # An engine at work may be done with it by now.
        with contextlib.suppress(FileNotFoundError):
            found |= yaml.load(path)["stages"]
    return found


def left(root: Path, patience: float = 5.0) -> list[psutil.Process]:
    """Return the processes of a repository that still live a while later."""
    deadline = time.monotonic() + patience
    while (found := marked(root) + watchdogs(root)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def marked(root: Path) -> list[psutil.Process]:
    """Return the processes that carry the mark of a repository's stages."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # It may end at any moment.
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if f"ASSAY_RUN={root}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(folder.name)))
    return found


def commands(root: Path, name: str) -> list[psutil.Process]:
    """Return the processes of a repository's stages that were called by a name."""
    return [process for process in marked(root) if name_of(process) == name]


def name_of(process: psutil.Process) -> str:
    try:
        return "".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def watchdogs(root: Path) -> list[psutil.Process]:
    called = ["pipelines.watchdog", str(root)]
    return [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-2:] == called]


def take_lock(root: Path) -> zc.lockfile.LockFile:
    while True:
        try:
            return zc.lockfile.LockFile(str(root / ".dvc/tmp/lock"))
        except zc.lockfile.LockError:
            time.sleep(0.01)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def said(root: Path) -> str:
    return (root / ".dvc/tmp/said").read_text() if (root / ".dvc/tmp/said").exists() else ""


def lines(root: Path, file: str) -> list[str]:
    path = root / ".dvc/tmp" / file
    # The last line may be half written when the disk is full.
    return [line for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def noted(root: Path, file: str) -> Counter[str]:
    """Return how often each stage began, or ended."""
    return Counter(line.split()[0] for line in lines(root, file))


def wait_for(condition: Callable[[], object], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
