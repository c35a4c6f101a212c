from pathlib import Path

import pytest

from pipelines import graph
from pipelines.repository import Repository
from pipelines.resources import Needs
from stages.common.errors import InputError


def read_plan(*targets, **options):
    with Repository(Path.cwd()) as repository:
        return graph.read_plan(repository, graph.Selection(targets, **options))


def names(*targets, **options):
    return [stage.name for stage in read_plan(*targets, **options)]


def changes():
    return {stage.name: stage.changes for stage in read_plan()}


def test_plan_has_the_order_and_edges_of_dvc_repro(chain, dvc):
    plan = read_plan()
    assert [stage.name for stage in plan] == ["first", "middle-toy@x", "middle-toy@y", "last"]
    assert {stage.name: stage.upstream for stage in plan} == {
        "first": (),
        "middle-toy@x": ("first",),
        "middle-toy@y": ("first",),
        "last": ("middle-toy@x", "middle-toy@y"),
    }
    assert plan[1].commands == ("echo cell x && cat a > b-x",)
    assert plan[1].dependencies == ("a", "params.yaml")
    assert plan[1].outputs == ("b-x",)
    assert plan[1].needs == Needs()
    said = dvc("repro", root=chain).stdout
    ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert ran == [stage.name for stage in plan]


def test_changes_say_why_and_affected_follows_them(chain, dvc):
    assert changes() == {
        "first": ("dependency modified: input", "output deleted: a"),
        "middle-toy@x": ("dependency deleted: a", "dependency new: params.yaml", "output deleted: b-x"),
        "middle-toy@y": ("dependency deleted: a", "dependency new: params.yaml", "output deleted: b-y"),
        "last": ("dependency deleted: b-x", "dependency deleted: b-y", "output deleted: c"),
    }
    assert dvc("repro", root=chain).returncode == 0
    assert graph.affected(read_plan()) == []

    Path("params.yaml").write_text("rate: 2.0e-5\n")
    modified = ("parameter modified: rate (1e-05 -> 2e-05)",)
    assert changes() == {"first": (), "middle-toy@x": modified, "middle-toy@y": modified, "last": ()}
    assert graph.affected(read_plan()) == ["middle-toy@x", "middle-toy@y", "last"]

    Path("c").unlink()
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("echo cell", "echo the cell"))
    assert changes()["middle-toy@x"] == (*modified, "command or definition changed")
    assert changes()["last"] == ("output deleted: c",)

    Path("params.yaml").write_text("other: 1\n")
    assert changes()["middle-toy@x"][0] == "parameter deleted: rate"


def test_a_long_value_is_shown_short(project, dvc):
    files = {"dvc.yaml": "stages: {a: {cmd: date > a, params: [text], outs: [a]}}", "params.yaml": "text: short"}
    root = project(files)
    assert dvc("repro", root=root).returncode == 0
    Path("params.yaml").write_text(f"text: {'long ' * 40}")
    (change,) = changes()["a"]
    assert change == f"parameter modified: text ('short' -> '{('long ' * 40)[:36]}...)"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("middle-toy@y", ["first", "middle-toy@y"]),
        ("middle-toy", ["first", "middle-toy@x", "middle-toy@y"]),
        ("toy", ["first", "middle-toy@x", "middle-toy@y"]),
        ("last", ["first", "middle-toy@x", "middle-toy@y", "last"]),
        ("dvc.yaml:first", ["first"]),
        ("dvc.yaml", ["first", "middle-toy@x", "middle-toy@y", "last"]),
    ],
)
def test_targets_are_stages_groups_studies_and_files(chain, target, expected):
    assert names(target) == expected


def test_single_items_stand_alone_but_in_order(chain):
    assert names("last", single_item=True) == ["last"]
    assert names("middle-toy@x", "first", single_item=True) == ["first", "middle-toy@x"]


def test_downstream_takes_what_reads_from_a_target(chain):
    assert names("middle-toy@x", downstream=True) == ["middle-toy@x", "last"]


def test_study_targets(chain):
    assert graph.study_targets("toy", chain) == ["middle-toy"]
    with pytest.raises(InputError, match="has no study `toys`; it has: toy"):
        graph.study_targets("toys", chain)


def test_frozen_stage_hides_what_it_reads(chain, dvc):
    assert dvc("repro", root=chain).returncode == 0
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "    frozen: true\n")
    Path("b-x").write_text("changed")
    (last,) = read_plan("last")
    assert (last.name, last.upstream, last.changes) == ("last", (), ())
    Path("c").write_text("changed")
    assert read_plan("last")[0].changes == ("output modified: c",)


def test_data_added_to_dvc_is_a_stage_too(chain, dvc):
    Path("alone").write_text("nothing reads this, so `dvc repro` leaves it alone")
    assert dvc("add", "input", "alone", root=chain).returncode == 0
    plan = read_plan()
    assert [stage.name for stage in plan] == ["input.dvc", "first", "middle-toy@x", "middle-toy@y", "last"]
    assert plan[0].commands == ()
    assert plan[1].upstream == ("input.dvc",)


def test_commands_and_needs_are_read(project):
    project({"dvc.yaml": "stages: {a: {cmd: [date, 'true'], meta: {assay: {cpus: 2}}}, b: {cmd: \"date\\ntrue\"}}"})
    plan = {stage.name: stage for stage in read_plan()}
    assert plan["a"].commands == plan["b"].commands == ("date", "true")
    assert plan["a"].needs == Needs(cpus=2)


def test_without_targets_the_stages_of_this_folder_are_meant(project, monkeypatch):
    root = project(
        {
            "dvc.yaml": "stages: {a: {cmd: date > a, outs: [a]}, z: {cmd: date}}",
            "sub/dvc.yaml": "stages: {b: {cmd: cat ../a > b, deps: [../a], outs: [b]}}",
        }
    )
    assert names() == ["a", "z"]
    assert names("sub/dvc.yaml:b") == ["a", "sub/dvc.yaml:b"]
    monkeypatch.chdir(root / "sub")
    assert names() == ["../dvc.yaml:a", "b"]
    monkeypatch.chdir(root / ".dvc")
    with pytest.raises(InputError, match=r"dvc\.yaml: nothing is named `dvc\.yaml`"):
        read_plan()


def test_unknown_target_is_named_with_what_there_is(chain):
    with pytest.raises(InputError, match=r"dvc\.yaml: nothing is named `lost` .*: first, middle-toy, last"):
        read_plan("lost")


def test_cycle_and_wrong_yaml_are_input_errors(chain):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("deps: [input]", "deps: [c]"))
    with pytest.raises(InputError, match=r"DVC: .* first"):
        read_plan()
    Path("dvc.yaml").write_text("stages: {first: {cmd: 3}}")
    with pytest.raises(InputError, match=r"DVC: .*expected str for dictionary value"):
        read_plan()
    Path("dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"dvc\.yaml: not YAML"):
        graph.study_targets("toy", chain)


def test_no_repository_and_no_pipeline_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"dvc\.yaml: no such file; run from the root"):
        graph.study_targets("toy", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    with pytest.raises(InputError, match=r"not inside of a DVC repository.*`dvc init`"):
        Repository(tmp_path)
