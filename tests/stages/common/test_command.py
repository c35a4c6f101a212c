import errno
import json
from pathlib import Path

import pytest

from stages.common import command
from stages.common.errors import InputError


def test_a_run_that_succeeds_writes_its_time_and_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command.run(lambda: "train-toy-none")
    timing = json.loads(Path("reports/timings/train-toy-none.json").read_text())
    assert set(timing) == {"seconds", "peak_mebibytes_of_one_process"}
    assert 1 < timing["peak_mebibytes_of_one_process"] < 100_000
    assert 0 <= timing["seconds"] < 60


def test_a_users_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def main():
        raise InputError("here", "wrong", "do\nthis")

    with pytest.raises(SystemExit) as end:
        command.run(main)
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "error: here: wrong; do this\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_exit_code_2(capsys):
    def main():
        raise OSError(errno.ENOSPC, "No space left on device", "data/models")

    with pytest.raises(SystemExit) as end:
        command.run(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: data/models: no space left; free some and run again, nothing was kept\n"


def test_any_other_error_keeps_its_traceback():
    def main():
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        command.run(main)


def test_options_are_required_and_explained(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", "--study", "toy"])
    with pytest.raises(SystemExit) as end:
        command.arguments("train", "Train.", "study", "cell")
    assert end.value.code == 2
    assert "the following arguments are required: --cell" in capsys.readouterr().err


def test_options_are_returned_by_name(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "--study", "toy", "--cell", "none"])
    found = command.arguments("train", "Train.", "study", "cell")
    assert (found.study, found.cell) == ("toy", "none")
