from pathlib import Path

import pytest

from pipelines import graph
from stages.common.errors import InputError


def test_plan_has_the_order_and_edges_of_dvc_repro(chain, dvc):
    plan = graph.read_plan()
    assert [stage.name for stage in plan] == ["first", "middle-toy@x", "middle-toy@y", "last"]
    assert {stage.name: stage.upstream for stage in plan} == {
        "first": (),
        "middle-toy@x": ("first",),
        "middle-toy@y": ("first",),
        "last": ("middle-toy@x", "middle-toy@y"),
    }
    assert plan[1].command == "echo cell x && cat a > b-x"
    assert plan[1].dependencies == ("a", "params.yaml")
    assert plan[1].outputs == ("b-x",)
    said = dvc("repro", root=chain).stdout
    ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert ran == [stage.name for stage in plan]


def test_changes_say_why_and_affected_follows_them(chain, dvc):
    assert graph.affected(graph.read_plan()) == ["first", "middle-toy@x", "middle-toy@y", "last"]
    assert dvc("repro", root=chain).returncode == 0
    assert graph.affected(graph.read_plan()) == []

    Path("params.yaml").write_text("rate: 2.0e-5\n")
    plan = {stage.name: stage.changes for stage in graph.read_plan()}
    assert plan == {
        "first": (),
        "middle-toy@x": ("modified: rate",),
        "middle-toy@y": ("modified: rate",),
        "last": (),
    }
    assert graph.affected(graph.read_plan()) == ["middle-toy@x", "middle-toy@y", "last"]

    Path("c").unlink()
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("echo cell", "echo the cell"))
    plan = {stage.name: stage.changes for stage in graph.read_plan()}
    assert plan["middle-toy@x"] == ("modified: rate", "changed command")
    assert plan["last"] == ("deleted: c",)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("middle-toy@y", ["first", "middle-toy@y"]),
        ("middle-toy", ["first", "middle-toy@x", "middle-toy@y"]),
        ("toy", ["first", "middle-toy@x", "middle-toy@y"]),
        ("last", ["first", "middle-toy@x", "middle-toy@y", "last"]),
    ],
)
def test_targets_are_stages_groups_and_studies(chain, target, expected):
    assert [stage.name for stage in graph.read_plan([target])] == expected


def test_study_targets(chain):
    assert graph.study_targets("toy", chain) == ["middle-toy"]
    with pytest.raises(InputError, match="has no study `toys`; it has: toy"):
        graph.study_targets("toys", chain)


def test_frozen_stage_hides_what_it_reads(chain):
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "    frozen: true\n")
    assert [stage.name for stage in graph.read_plan(["last"])] == ["last"]


def test_data_added_to_dvc_is_a_stage_too(chain, dvc):
    Path("alone").write_text("nothing reads this, so `dvc repro` leaves it alone")
    assert dvc("add", "input", "alone", root=chain).returncode == 0
    plan = graph.read_plan()
    assert [stage.name for stage in plan] == ["input.dvc", "first", "middle-toy@x", "middle-toy@y", "last"]
    assert plan[0].command == ""


def test_unknown_target_is_named_with_what_there_is(chain):
    with pytest.raises(InputError, match=r"dvc\.yaml: has no stage or study `lost`; .*: first, middle-toy, last"):
        graph.read_plan(["lost"])


def test_cycle_and_wrong_yaml_are_input_errors(chain):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("deps: [input]", "deps: [c]"))
    with pytest.raises(InputError, match=r"DVC: .* first"):
        graph.read_plan()
    Path("dvc.yaml").write_text("stages: {first: {cmd: 3}}")
    with pytest.raises(InputError, match=r"DVC: .*expected str for dictionary value"):
        graph.read_plan()
    Path("dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"dvc\.yaml: not YAML"):
        graph.study_targets("toy", chain)


def test_no_repository_and_no_pipeline_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"dvc\.yaml: no such file; run from the root"):
        graph.study_targets("toy", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    with pytest.raises(InputError, match=r"not inside of a DVC repository.*`dvc init`"):
        graph.read_plan(root=tmp_path)
