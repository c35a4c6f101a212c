from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml
from ruamel.yaml import YAML

from pipelines import graph, profiles, roundtrip
from pipelines.parameters import SCHEMAS, validate
from pipelines.repository import Repository
from stages.common.cells import cells
from stages.common.errors import InputError
from stages.common.settings import read_parameters
from stages.results.claims import PROFILES
from stages.results.sources import reported_studies, studies

ROOT = Path(__file__).parents[2]
BASE = """\
# A comment at the top.
profile: quick

study: # behind a key
  rate: 1.0e-5 # behind a number
  other: 1.0e+3
  texts: ["1e-5", 'on', plain]
  files: [{path: a}, {path: b, group: c}]
  limit: {}
  nested:
    - {a: 0.10}
    - 2
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("profiles").mkdir()
    Path("profiles/quick.yaml").write_text(BASE)
    return tmp_path


def overlay(name: str, text: str) -> None:
    Path("profiles", f"{name}.yaml").write_text(text)


def loaded(text: str) -> dict:
    return YAML(typ="safe", pure=True).load(text)


def test_overlay_changes_only_what_it_names(small):
    overlay("big", "study: {other: 2.50e-7, files: [{path: z}], nested: null, limit: {train: 3, test: null}}\n")
    assert (
        profiles.render("big")
        == """\
# A comment at the top.
profile: big

study: # behind a key
  rate: 1.0e-5 # behind a number
  other: 2.50e-7
  texts: ["1e-5", 'on', plain]
  files: [{path: z}]
  limit: {train: 3}
"""
    )


def test_an_overlay_extends_another(small):
    overlay("wide", "study: {rate: null, other: 5}\nmore: {a: 1}\n")
    overlay("big", "extends: wide\nstudy: {other: 6}\n")
    content = loaded(profiles.render("big"))
    assert content["profile"] == "big"
    assert "extends" not in content
    assert (content["study"]["other"], content["more"]) == (6, {"a": 1})
    assert "rate" not in content["study"]


def test_an_overlay_that_extends_itself_or_nothing_known_is_refused(small):
    overlay("big", "extends: wide\n")
    with pytest.raises(InputError, match=r"profiles: has no profile `wide`; it has: quick, big"):
        profiles.render("big")
    overlay("wide", "extends: big\n")
    with pytest.raises(InputError, match=r"big\.yaml: extends: comes back to itself \(big -> wide -> big\)"):
        profiles.render("big")


def test_removed_and_new_keys(small):
    overlay("other", "study: {rate: null}\nmore:\n  a: {b: 1}\n")
    content = loaded(profiles.render("other"))
    assert "rate" not in content["study"]
    assert content["more"] == {"a": {"b": 1}}


def test_use_and_show(small):
    overlay("big", "study: {other: 5}\n")
    profiles.use("quick")
    assert Path("params.yaml").read_text() == BASE
    assert profiles.explained()
    assert profiles.differences("quick") == []
    assert profiles.differences("big") == ["profile: quick -> big", "study.other: 1000.0 -> 5"]
    profiles.use("big")
    assert profiles.differences("big") == []
    profiles.use("quick")
    assert Path("params.yaml").read_text() == BASE


def test_edits_that_no_profile_holds_are_kept(small):
    overlay("big", "study: {other: 5}\n")
    profiles.use("quick")
    edited = BASE.replace("rate: 1.0e-5", "rate: 2.0e-5")
    Path("params.yaml").write_text(edited)
    assert profiles.differences("quick") == ["study.rate: 2e-05 -> 1e-05"]
    with pytest.raises(InputError, match=r"params\.yaml: has edits that no profile holds.*--force"):
        profiles.use("big")
    assert Path("params.yaml").read_text() == edited
    profiles.use("big", force=True)
    assert profiles.explained()


@pytest.mark.parametrize("name", ["huge", "../params", ""])
def test_unknown_profile_lists_those_there_are(small, name):
    with pytest.raises(InputError, match=r"profiles: has no profile `.*`; it has: quick"):
        profiles.use(name)
    assert not Path("params.yaml").exists()


@pytest.mark.parametrize(("text", "problem"), [("a: [", "not YAML"), ("- a\n", "holds no keys")])
def test_broken_overlay_is_named(small, text, problem):
    overlay("bad", text)
    with pytest.raises(InputError, match=rf"profiles/bad\.yaml: {problem}"):
        profiles.render("bad")


def test_the_real_profiles_are_these_the_base_first(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert profiles.available() == ["quick", *sorted({*PROFILES} - {"quick"})]


@pytest.mark.parametrize("name", PROFILES)
def test_real_profile_is_valid(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    parameters = loaded(profiles.render(name))
    assert parameters["profile"] == name
    if name == "paper":
        for key, section in pin(parameters).items():
            with pytest.raises(InputError, match=rf"params\.yaml: {key}.*revision"):
                validate(parameters)
            section["revision"] = "0" * 40
    validate(parameters)


def pin(parameters: dict) -> dict[str, dict]:
    """Return what the paper profile takes from the hub: dotted key -> block that needs a revision."""
    found = {f"datasets.{name}": block for name, block in parameters["datasets"].items()}
    part = {name: "network" if "network" in block else "encoder" for name, block in parameters["models"].items()}
    found |= {f"models.{name}.{key}": parameters["models"][name][key] for name, key in part.items()}
    return {key: block for key, block in found.items() if block.get("source") == "hub"}


@pytest.mark.parametrize("name", PROFILES)
def test_numbers_survive_every_reader(name, monkeypatch):
    import yaml

    monkeypatch.chdir(ROOT)
    text = profiles.render(name)
    ours = dict(leaves(loaded(text)))
    assert dict(leaves(parse_yaml(text, "params.yaml"))) == ours
    assert {key: repr(value) for key, value in leaves(yaml.safe_load(text))} == {k: repr(v) for k, v in ours.items()}
    again = loaded(roundtrip.dump(roundtrip.load("params.yaml", text)))
    assert dict(leaves(again)) == ours
    assert any(isinstance(value, float) and value < 1e-4 for value in ours.values())


def leaves(value, key=""):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield key, value
    for name, item in items:
        yield from leaves(item, f"{key}.{name}")


@pytest.mark.parametrize("number", ["1.0e-5", "1.0e+5", "0.10", "5.0e-3", "1", "1.0", ".5", "123456789.125"])
def test_spelling_of_a_number_survives_the_round_trip(number):
    text = f"a: {number}\nb: [{number}, {{c: {number}}}]\n"
    assert roundtrip.dump(roundtrip.load("x", text)) == text


def test_base_survives_the_round_trip_byte_for_byte():
    text = (ROOT / "profiles/quick.yaml").read_text()
    assert roundtrip.dump(roundtrip.load("quick", text)) == text


def test_smoke_is_small_and_has_two_seeds_in_the_joint_grid(checkout):
    (checkout / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    profiles.use("smoke", force=True)
    with Repository(checkout) as repository:
        assert len(graph.read_plan(repository)) <= 35
    parameters = read_parameters()
    reported = reported_studies(parameters)
    assert {study: parameters[study]["seeds"] for study in reported} == {study: [0] for study in reported} | {
        "joint": [0, 1]
    }


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "smoke"])
def test_the_matched_cell_has_the_schedule_of_dp_sgd(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    variants = loaded(profiles.render(name))["joint"]["train"]["variant"]
    schedule = ("epochs", "batch_size", "learning_rate")
    assert [variants["none-matched"][key] for key in schedule] == [variants["dpsgd"][key] for key in schedule]


@pytest.mark.parametrize("name", ["full", "paper"])
def test_large_profiles_take_all_rows(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    datasets = loaded(profiles.render(name))["datasets"]
    assert {key: block["limit"] for key, block in datasets.items()} == {key: {} for key in datasets}


def test_paper_trains_and_attacks_canaries_like_full(monkeypatch):
    monkeypatch.chdir(ROOT)
    paper, full = (loaded(profiles.render(name)) for name in ("paper", "full"))
    for study, verb in (
        ("canary_extraction", "train"),
        ("canary_extraction", "extract"),
        ("gradient_inversion", "invert"),
    ):
        assert paper[study][verb]["base"] == full[study][verb]["base"]
        assert paper[study]["seeds"] == full[study]["seeds"]


# The grids of `grid` and `full` are those of the papers.
@pytest.mark.parametrize("name", sorted({*PROFILES} - {"grid", "full"}))
def test_a_study_has_at_most_twenty_cells(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    parameters = loaded(profiles.render(name))
    for study in studies(parameters):
        verbs = [verb for verb in SCHEMAS if verb in parameters[study]]
        assert sum(len(cells(parameters, study, verb)) for verb in verbs) <= 20


def test_cells_that_are_named_after_an_epsilon_ask_for_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = loaded(profiles.render("grid"))["gradient_inversion"]["invert"]["variant"]
    found = [cell for name, cell in cells.items() if name.endswith("epsilon-8")]
    assert [(cell["epsilon"], cell["delta"]) for cell in found] == [(8.0, 1e-5)] * 6
