from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.report import versions
from stages.report.versions import Package, packages


@pytest.mark.usefixtures("project")
def test_what_is_installed_is_said_where_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda name: {"torch": "2.13.0+cpu", "scipy": "9.9"}[name])
    monkeypatch.setattr(versions, "PackageNotFoundError", KeyError)

    assert packages() == [
        Package("torch", "2.13.0", None),
        Package("scipy", "0.1", "9.9"),
        Package("words", "1.0", "none"),
    ]


@pytest.mark.usefixtures("project")
def test_a_lock_that_is_not_there_is_named() -> None:
    Path("requirements/lock.txt").unlink()

    with pytest.raises(InputError, match=r"requirements/lock\.txt: no such file"):
        packages()
