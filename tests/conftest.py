"""How the tests are dealt to processes: `make test` runs two; a file stays together, and so do those of the engine."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


# First, or pytest-xdist has looked for groups before there are any.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file together, for its fixtures, and one after the other what starts servers and clusters."""
    for item in items:
        part = item.path.relative_to(HERE)
        item.add_marker(pytest.mark.xdist_group("engine" if part.parts[0] == "pipelines" else str(part)))
