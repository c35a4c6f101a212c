"""Whether dvc.yaml declares, for every cell of every profile, what its verb reads and writes, and nothing else."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from pipelines import profiles
from pipelines.parameters import SCHEMAS
from pipelines.records import locked_stages
from stages.common.cells import Cell, read_cell
from stages.common.paths import partition_path, prepared_path
from stages.common.references import references
from stages.common.settings import read_parameters
from stages.results.claims import PROFILES
from stages.results.sources import SHARED_BLOCKS, reported_studies, sources
from stages.results.verbs import FITTING, VERBS
from stages.train.settings import TrainSettings

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"python -m stages\.(?P<verb>\w+) --study (?P<study>\w+) --cell (?P<cell>\S+)")
Stages = dict[str, Any]


@pytest.fixture(scope="module", params=PROFILES)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stages, Any]]:
    """DVC's stages by name at one profile, and the parameters."""
    root = tmp_path_factory.mktemp(request.param)
    for name in ("dvc.yaml", "params.yaml", "profiles", "requirements"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
    with chdir(root):
        profiles.use(request.param, force=True)
        Repo.init(no_scm=True).close()
        with Repo() as repo:
            yield {stage.addressing: stage for stage in repo.index.stages}, read_parameters()


def cells(project: tuple[Stages, Any]) -> Iterator[tuple[Any, Cell[Any]]]:
    stages, parameters = project
    for stage in stages.values():
        if found := COMMAND.fullmatch(stage.cmd):
            verb = found["verb"]
            yield stage, read_cell(parameters, found["study"], verb, found["cell"], SCHEMAS[verb])


def test_every_cell_of_the_grids_is_a_stage(project: tuple[Stages, Any]) -> None:
    _, parameters = project
    found = {(cell.place.study, cell.place.verb, cell.place.cell) for _, cell in cells(project)}
    reported = {
        (source.study, source.verb, source.cell)
        for study in reported_studies(parameters)
        for source in sources(parameters, study)
        if source.verb != "partition"
    }
    assert found == reported


def test_the_verbs_that_name_the_cell_they_attack_are_those_whose_settings_refer_to_one() -> None:
    assert {verb for verb in SCHEMAS if VERBS[verb].targets} == {
        verb for verb, schema in SCHEMAS.items() if "target" in references(schema)
    }


def test_a_cell_reads_what_is_declared(project: tuple[Stages, Any]) -> None:
    for stage, cell in cells(project):
        read = [*cell.settings.inputs(), *cell.others.values()]
        if cell.place.verb not in (*FITTING, "shadow") and "target" not in cell.others:
            read.append(cell.place.models)
        declared = [Path(dep.def_path) for dep in stage.deps if dep.def_path.startswith("data/")]
        for path in read:
            assert any(path.is_relative_to(dep) for dep in declared), f"{stage.addressing} reads {path}"
        for dep in declared:
            assert any(path.is_relative_to(dep) for path in read), f"{stage.addressing} declares {dep}"


def test_a_cell_depends_on_the_parameters_it_reads(project: tuple[Stages, Any]) -> None:
    for stage, cell in cells(project):
        declared = {key for dep in stage.params for key in dep.params}
        # What a grid's own axis says is in the command.
        read = {
            f"{origin}.{name}"
            for name, origin in cell.origin.items()
            if origin != f"{cell.place.study}.{cell.place.verb}.grid"
        }
        if cell.place.verb == "shadow":
            training = read_cell(project[1], cell.place.study, "train", cell.place.cell, SCHEMAS["train"])
            read |= {f"{origin}.{name}" for name, origin in training.origin.items()}
        for key in read:
            assert any(f"{key}.".startswith(f"{known}.") for known in declared), f"{stage.addressing} reads {key}"
        # Blocks that studies share: a change of one runs again only the cells that read it.
        shared = {key for key in declared if key.partition(".")[0] in SHARED_BLOCKS}
        assert shared == set(blocks(cell, project[1])), stage.addressing


def blocks(cell: Cell[Any], parameters: dict[str, Any]) -> Iterator[str]:
    """Yield what a cell reads of params.yaml besides its study: who fits models builds them, all others load them.

    The second is held by the fixture `study` of tests/stages, which gives their commands no more than this.
    """
    place = cell.place
    if place.verb in FITTING:
        yield f"models.{cell.settings.model}"
    if place.verb == "shadow":
        yield f"models.{read_cell(parameters, place.study, 'train', place.cell, TrainSettings).settings.model}"


def test_a_cell_writes_what_is_declared(project: tuple[Stages, Any]) -> None:
    for stage, cell in cells(project):
        place, verb = cell.place, cell.place.verb
        made = {place.metrics}
        if verb in FITTING:
            made |= {place.models, place.curve("history")}
        elif cell.settings.folder is not None:
            made.add(place.data(cell.settings.folder))
        if verb not in FITTING and (curve := VERBS[verb].curve):
            made.add(place.curve(curve.name))
        assert {Path(out.def_path) for out in stage.outs} == made, stage.addressing
        private = {Path(out.def_path) for out in stage.outs if out.use_cache}
        assert private == {Path(out.def_path) for out in stage.outs if not out.can_push}, stage.addressing


def test_partitions_and_data_sets_are_where_cells_look_for_them(project: tuple[Stages, Any]) -> None:
    stages, parameters = project
    made = {Path(out.def_path) for stage in stages.values() for out in stage.outs}
    for name in parameters["partitions"]:
        assert partition_path(name).parent in made
    for name in parameters["datasets"]:
        assert prepared_path(name, "train").parent in made


def test_the_lock_file_knows_the_stages_of_quick_and_no_others(project: tuple[Stages, Any]) -> None:
    stages, parameters = project
    if parameters["profile"] == "quick":
        assert sorted(locked_stages(ROOT / "dvc.lock")) == sorted(stages)


def test_the_profile_in_git_is_quick() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles/quick.yaml").read_bytes()
    assert os.access(ROOT / ".ci/run", os.X_OK)
