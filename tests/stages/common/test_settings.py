import copy
from typing import Annotated, Literal

import pytest
from pydantic import Field

from stages.common.cells import cells, read_cell
from stages.common.errors import InputError
from stages.common.settings import Settings, block, parse, read_parameters


class Wood(Settings):
    kind: Literal["wood"]
    rings: int


class Stone(Settings):
    kind: Literal["stone"]
    weight: float


class Wall(Settings):
    made_of: Annotated[Wood | Stone, Field(discriminator="kind")]
    parts: list[Annotated[Wood | Stone, Field(discriminator="kind")]] = Field(default_factory=list)
    height: float = 1.0


class Build(Settings):
    dataset: str
    seeds: list[int]
    batch: int
    tool: str | None = None
    wall: Wall | None = None


CLAY = (
    "made_of: {'kind': 'clay'} is not allowed; input tag 'clay' found using 'kind' does not match any of the "
    "expected tags: 'wood', 'stone'"
)
PARAMETERS = {
    "site": {
        "dataset": "own",
        "seeds": [0],
        "partition": "not a setting of Build",
        "build": {
            "grid": {"tool": ["saw", "axe"], "variant": ["fast", "safe"]},
            "base": {"batch": 1},
            "tool": {"saw": {"batch": 2}, "axe": {}},
            "variant": {"fast": {}, "safe": {"batch": 3}},
        },
    }
}


def settings(cell, **changes):
    """Return the settings of a cell after dotted keys of site.build were set."""
    parameters = copy.deepcopy(PARAMETERS)
    for key, value in changes.items():
        *way, last = key.split("__")
        holder = parameters["site"]
        for part in way:
            holder = holder[part]
        holder[last] = value
    return read_cell(parameters, "site", "build", cell, Build).settings


def test_cells_are_named_by_their_values_in_grid_order():
    assert cells(PARAMETERS, "site", "build") == {
        "saw-fast": {"tool": "saw", "variant": "fast"},
        "saw-safe": {"tool": "saw", "variant": "safe"},
        "axe-fast": {"tool": "axe", "variant": "fast"},
        "axe-safe": {"tool": "axe", "variant": "safe"},
    }


@pytest.mark.parametrize(("cell", "batch"), [("axe-fast", 1), ("saw-fast", 2), ("saw-safe", 3)])
def test_a_later_axis_wins_over_an_earlier_one_and_over_base(cell, batch):
    assert settings(cell).batch == batch


@pytest.mark.parametrize("place", ["build__base", "build__variant__fast"])
def test_what_the_study_gives_all_cells_no_cell_may_change(place):
    key = place.replace("__", ".")
    with pytest.raises(
        InputError, match=rf"^params.yaml: site.{key}.seeds: the study gives it for all cells; remove it"
    ):
        settings("axe-fast", **{place: {"batch": 1, "seeds": [5]}})


def test_an_axis_may_choose_what_the_study_gives():
    grid = {"dataset": ["other"]}
    assert settings("other", build__grid=grid, build__dataset={"other": {}}).dataset == "other"


def test_an_axis_value_is_the_setting_of_that_name():
    assert settings("axe-fast").tool == "axe"


def test_what_an_axis_value_says_wins_over_its_own_name():
    assert settings("saw-fast", build__tool__saw={"tool": "chainsaw"}).tool == "chainsaw"


def test_base_may_be_absent():
    assert settings("saw-fast", build__base=None).batch == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build__base": {}}, "params.yaml: site.build.base.batch: missing; add it"),
        (
            {"build__base": {"batch": 1, "bach": 1}},
            "params.yaml: site.build.base.bach: no such setting; allowed: batch, dataset, seeds, tool, wall",
        ),
        (
            {"build__base": {"batch": "1"}},
            "params.yaml: site.build.base.batch: '1' is not allowed; input should be a valid integer",
        ),
        (
            {"build__base": {"batch": True}},
            "params.yaml: site.build.base.batch: True is not allowed; input should be a valid integer",
        ),
        ({"seeds": "0"}, "params.yaml: site.seeds: '0' is not allowed; input should be a valid list"),
        ({"seeds": [0, 0.5]}, "params.yaml: site.seeds.1: 0.5 is not allowed; input should be a valid integer"),
        (
            {"build__tool__axe": {"batch": 1.5}},
            "params.yaml: site.build.tool.axe.batch: 1.5 is not allowed; input should be a valid integer",
        ),
        ({"build__base": 3}, "params.yaml: site.build.base: 3; must be a mapping of settings"),
        ({"build__tool__axe": [1]}, "params.yaml: site.build.tool.axe: [1]; must be a mapping of settings"),
        ({"build__tool": {"saw": {}}}, "params.yaml: site.build.tool: has no `axe`; it has: saw"),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(changes, message):
    with pytest.raises(InputError) as error:
        settings("axe-fast", **changes)
    assert str(error.value) == message


def test_a_missing_key_is_named_even_if_a_value_is_its_name():
    with pytest.raises(InputError, match=r"^params.yaml: site.build.base.batch: missing"):
        settings("axe-fast", build__base={"tool": "batch"})


def test_an_unknown_cell_is_refused_with_the_known_ones():
    with pytest.raises(
        InputError, match=r"^params.yaml: site.build.grid: has no cell `axe`; it has: saw-fast, saw-safe, axe-fast, axe"
    ):
        settings("axe")


def test_an_unknown_study_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"^params.yaml: top level: has no `sit`; it has: site$"):
        cells(PARAMETERS, "sit", "build")


@pytest.mark.parametrize(
    "grid", [{}, ["saw"], {"variant": "saw"}, {"variant": None}, {"variant": [1, 2]}, {"variant": [None]}]
)
def test_a_grid_is_a_mapping_of_lists_of_names(grid):
    with pytest.raises(InputError, match=r"^params.yaml: site.build.grid: .* each axis is a list of names"):
        settings("saw", build__grid=grid)


def test_a_profile_leaves_a_study_out_by_an_empty_axis():
    left_out = copy.deepcopy(PARAMETERS)
    left_out["site"]["build"]["grid"] = {"variant": [], "way": ["fast"]}
    assert cells(left_out, "site", "build") == {}


@pytest.mark.parametrize("grid", [{"variant": ["a", "a"]}, {"one": ["a-b", "a"], "two": ["c", "b-c"]}])
def test_two_cells_of_one_name_are_refused(grid):
    with pytest.raises(InputError, match="two of its cells would have the same name"):
        settings("a", build__grid=grid)


@pytest.mark.parametrize(
    ("wall", "message"),
    [
        (
            {"made_of": {"kind": "wood", "rings": 1, "weigth": 1}},
            "made_of.weigth: no such setting; allowed: kind, rings",
        ),
        ({"made_of": {"kind": "stone"}}, "made_of.weight: missing; add it"),
        (
            {"made_of": {"kind": "wood", "rings": "9"}},
            "made_of.rings: '9' is not allowed; input should be a valid integer",
        ),
        (
            {"made_of": {"kind": "clay"}},
            CLAY,
        ),
        (
            {"made_of": {"kind": "wood", "rings": 1}, "parts": [{"kind": "stone", "weight": 1.0, "rings": 1}]},
            "parts.0.rings: no such setting; allowed: kind, weight",
        ),
        (
            {"made_of": {"kind": "wood", "rings": 1}, "hight": 1},
            "hight: no such setting; allowed: height, made_of, parts",
        ),
    ],
)
def test_an_error_inside_a_union_names_the_key_of_the_file(wall, message):
    with pytest.raises(InputError) as error:
        parse(Wall, wall, "walls.north")
    assert str(error.value) == f"params.yaml: walls.north.{message}"


def test_an_error_of_a_nested_block_names_the_layer_it_came_from():
    wood = {"kind": "wood", "rings": 1, "age": 3}
    with pytest.raises(InputError, match=r"^params.yaml: site.build.tool.axe.wall.made_of.age: no such setting"):
        settings("axe-fast", build__tool__axe={"wall": {"made_of": wood}})


WALL = {"made_of": {"kind": "wood", "rings": 1}, "parts": [{"kind": "stone", "weight": 1.0}], "height": 3.0}


def walled(**wall):
    """Return the wall of a cell whose base has WALL, and whose axis changes it."""
    return settings("axe-fast", build__base={"batch": 1, "wall": WALL}, build__tool__axe={"wall": wall}).wall


def test_nested_settings_are_merged_and_lists_replaced():
    assert walled(height=4.0).model_dump() == WALL | {"height": 4.0}
    assert walled(made_of={"rings": 2}).made_of == Wood(kind="wood", rings=2)
    assert walled(parts=[]).parts == []


def test_null_removes_what_an_earlier_layer_said():
    assert walled(height=None).height == 1.0
    assert settings("axe-fast", build__base={"batch": 1, "wall": WALL}, build__tool__axe={"wall": None}).wall is None


def test_a_mapping_of_another_kind_inherits_nothing():
    assert walled(made_of={"kind": "stone", "weight": 2.0}).made_of == Stone(kind="stone", weight=2.0)
    with pytest.raises(InputError, match=r"^params.yaml: site.build.tool.axe.wall.made_of.weight: missing; add it"):
        walled(made_of={"kind": "stone"})


def test_merging_leaves_the_parameters_as_they_were():
    parameters = copy.deepcopy(PARAMETERS)
    build = parameters["site"]["build"]
    build["base"]["wall"], build["tool"]["axe"]["wall"] = copy.deepcopy(WALL), {"height": None, "parts": []}
    before = copy.deepcopy(parameters)
    read_cell(parameters, "site", "build", "axe-fast", Build)
    assert parameters == before


@pytest.mark.parametrize(
    ("base", "axe", "message"),
    [
        (
            {},
            {"made_of": {"rings": "2"}},
            "tool.axe.wall.made_of.rings: '2' is not allowed; input should be a valid int",
        ),
        ({"height": "3"}, {"parts": []}, "base.wall.height: '3' is not allowed; input should be a valid number"),
        ({"hight": 3.0}, {"parts": []}, "base.wall.hight: no such setting; allowed: height, made_of, parts"),
        ({}, {"made_of": {"rings": None}}, "tool.axe.wall.made_of.rings: missing; add it"),
    ],
)
def test_an_error_names_the_block_in_which_a_nested_setting_stands(base, axe, message):
    with pytest.raises(InputError) as error:
        settings("axe-fast", build__base={"batch": 1, "wall": WALL | base}, build__tool__axe={"wall": axe})
    assert str(error.value).startswith(f"params.yaml: site.build.{message}")


def test_a_cell_knows_where_a_nested_setting_stands_or_would():
    parameters = copy.deepcopy(PARAMETERS)
    build = parameters["site"]["build"]
    build["base"]["wall"], build["variant"]["fast"]["wall"] = WALL, {"made_of": {"rings": 2}}
    cell = read_cell(parameters, "site", "build", "axe-fast", Build)
    assert cell.key("wall.height") == "params.yaml: site.build.base.wall.height"
    assert cell.key("wall.made_of.kind") == "params.yaml: site.build.base.wall.made_of.kind"
    assert cell.key("wall.made_of.rings") == "params.yaml: site.build.variant.fast.wall.made_of.rings"
    assert cell.key("wall.colour") == "params.yaml: site.build.variant.fast.wall.colour"
    assert cell.key("tool") == "params.yaml: site.build.grid.tool"
    assert cell.key("speed") == "params.yaml: site.build.base.speed"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number):
    with pytest.raises(InputError, match=r"walls.north.height: (nan|inf) is not allowed; input should be a finite"):
        parse(Wall, {"made_of": {"kind": "wood", "rings": 1}, "height": number}, "walls.north")


def test_a_whole_number_may_stand_for_a_fraction():
    assert parse(Stone, {"kind": "stone", "weight": 2}, "stone").weight == 2.0


def test_a_long_value_is_shortened():
    with pytest.raises(InputError) as error:
        parse(Stone, {"kind": "stone", "weight": "x" * 500}, "stone")
    assert len(str(error.value)) < 160


def test_a_block_lists_what_stands_beside_a_missing_key():
    with pytest.raises(InputError, match=r"^params.yaml: site.build.tool: has no `hammer`; it has: saw, axe$"):
        block(PARAMETERS, "site.build.tool.hammer")


def test_a_block_of_a_value_that_holds_nothing_is_refused():
    with pytest.raises(InputError, match=r"^params.yaml: site.dataset: has no `train`; it has: nothing$"):
        block(PARAMETERS, "site.dataset.train")


def test_yaml_is_read_by_version_1_2_as_dvc_reads_it(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("number: 1.0e-5\nnone: none\nyes: yes\noff: off\noctal: 010\n")
    assert read_parameters(path) == {"number": 1e-5, "none": "none", "yes": "yes", "off": "off", "octal": 10}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no keys"),
        (b"- 1\n- 2\n", "holds no keys"),
        (b"a: [\n", "not YAML"),
        (b"a: 1\na: 2\n", "not YAML .*duplicate key"),
        (b"a: \xff\n", "not YAML"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"params.yaml: {problem}") as error:
        read_parameters(path)
    assert "\n" not in str(error.value)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file; run from the root of the project"):
        read_parameters(tmp_path / "params.yaml")
