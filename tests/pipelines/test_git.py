import pytest

from pipelines import git
from stages.common.errors import InputError


def test_what_git_refuses_is_nothing_or_an_error_with_its_reason(tmp_path):
    assert git.ask("rev-parse", "HEAD", root=tmp_path) is None
    with pytest.raises(InputError, match=r"not a git repository.*; start one"):
        git.demand("rev-parse", "HEAD", root=tmp_path, remedy="start one")


def test_what_git_says_has_no_line_break_at_its_end(tmp_path):
    git.demand("init", "-q", root=tmp_path, remedy="")
    assert git.ask("rev-parse", "--is-inside-work-tree", root=tmp_path) == "true"
    assert git.ask_bytes("rev-parse", "--is-inside-work-tree", root=tmp_path) == b"true\n"
