"""How the tests are dealt to processes: `make test` runs two, one of which takes all that use the engine."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# They start servers, clusters and processes of their own, and would wait for each other.
ONE_AFTER_THE_OTHER = ("pipelines", "test_whole_graph.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file together, and those of the engine."""
    for item in items:
        part = item.path.relative_to(HERE)
        name = "engine" if part.parts[0] in ONE_AFTER_THE_OTHER else str(part)
        item.add_marker(pytest.mark.xdist_group(name))
