"""What may import what, and whether dvc.yaml knows the code of every stage."""

import re
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"python -m stages\.(\w+)")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("stages", "pipelines", include_external_packages=True, cache_dir=None)


def stages() -> dict[str, dict]:
    plan = YAML(typ="safe").load(ROOT / "dvc.yaml")
    return {name: entry.get("do", entry) for name, entry in plan["stages"].items()}


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_the_packages_it_imports(graph: grimp.ImportGraph, name: str) -> None:
    stage = stages()[name]
    command = f"stages.{COMMAND.match(stage['cmd'])[1]}.__main__"
    modules = {command, *graph.find_upstream_modules(command)}
    packages = {"/".join(module.split(".")[:2]) for module in modules if re.match(r"stages\.\w", module)}
    listed = [path for path in stage["deps"] if path.startswith("stages/")]
    # stages/__init__.py runs before any of them.
    assert listed == sorted({"stages/__init__.py", *packages})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("pipelines", ["torch", "transformers", "opacus"]), ("stages", ["dvc", "prefect", "pipelines"])],
)
def test_orchestration_and_science_are_apart(graph: grimp.ImportGraph, ours: str, theirs: list[str]) -> None:
    for module in {ours, *graph.find_descendants(ours)}:
        assert not graph.find_modules_directly_imported_by(module) & set(theirs)
