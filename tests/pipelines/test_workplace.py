import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.workplace import Workplace, write
from stages.common.errors import InputError

HOLD = """
import sys
from pathlib import Path
from pipelines.workplace import Workplace

with Workplace(Path(sys.argv[1])).alone():
    print("at work", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_write_leaves_the_text_and_nothing_beside_it(tmp_path):
    path = tmp_path / "dvc.lock"
    write(path, "one é\n")
    write(path, "two\n")
    assert path.read_text(encoding="utf-8") == "two\n"
    assert list(tmp_path.iterdir()) == [path]


def test_write_keeps_permissions_and_obeys_the_mask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "new", "")
        assert mode(tmp_path / "new") == 0o640
        (tmp_path / "new").chmod(0o604)
        write(tmp_path / "new", "")
        assert mode(tmp_path / "new") == 0o604
    finally:
        os.umask(before)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "dvc.lock"
    path.write_text("before")

    def fail(*_: object) -> None:
        assert path.read_text() == "before"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", fail), "replace": (Path, "replace", fail)}[step])
    with pytest.raises(OSError, match="No space"):
        write(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_one_engine_is_at_work_until_its_process_ends(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "at work\n"
        expected = rf"{tmp_path}: another `assay run` is at work here \(process {other.pid}\); wait for it"
        with pytest.raises(InputError, match=expected), Workplace(tmp_path).alone():
            pass
        other.kill()
        other.wait()
        with Workplace(tmp_path).alone():
            pass


def test_work_in_another_repository_does_not_matter(tmp_path):
    with Workplace(tmp_path / "a").alone(), Workplace(tmp_path / "b").alone():
        pass
    with Workplace(tmp_path / "a").alone():
        pass


def test_durations_are_kept_from_run_to_run(tmp_path):
    workplace = Workplace(tmp_path)
    assert workplace.durations() == {}
    with workplace.alone():
        workplace.remember({"a": 1.5, "b": 2})
        workplace.remember({"b": 3.25, "c@x": 4})
    assert Workplace(tmp_path).durations() == {"a": 1.5, "b": 3.25, "c@x": 4}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_durations_that_cannot_be_read_are_none(tmp_path, content):
    workplace = Workplace(tmp_path)
    workplace.folder.mkdir(parents=True)
    (workplace.folder / "durations.json").write_bytes(content)
    assert workplace.durations() == {}
    workplace.remember({"a": 1})
    assert workplace.durations() == {"a": 1}


def test_durations_that_cannot_be_written_are_no_error(tmp_path):
    (tmp_path / ".dvc").write_text("a file where the folder should be")
    Workplace(tmp_path).remember({"a": 1})
    assert Workplace(tmp_path).durations() == {}


def test_each_stage_has_a_log_of_its_own_in_one_folder(tmp_path):
    workplace = Workplace(tmp_path)
    names = ["train@a-1", "sub/dvc.yaml:train", "sub%2Fdvc.yaml:train", "../dvc.yaml:train", ".."]
    logs = [workplace.log(name) for name in names]
    assert logs[0] == tmp_path / ".dvc/tmp/assay/logs/train@a-1.log"
    assert {log.parent for log in logs} == {logs[0].parent}
    assert len(set(logs)) == len(names)
