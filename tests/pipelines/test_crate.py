"""The crate of a run: what is in it, that it is of the profile, and what it refuses."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

PRIVATE = ("a", "b-x", "b-y", "c")


@pytest.fixture
def finished(chain, reproduce) -> Path:
    """A repository whose four stages have run, committed."""
    Path("reports").mkdir()
    Path("secret.txt").write_text("not in git")
    reproduce()
    git("config", "user.name", "test")
    git("add", "dvc.yaml", "dvc.lock", "params.yaml", "input", ".gitignore")
    git("commit", "--quiet", "--message", "run")
    return chain


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def entities(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        graph = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    return {entity["@id"]: entity for entity in graph}


def ids(value: Any) -> list[str]:
    return [each["@id"] for each in (value if isinstance(value, list) else [value])]


def test_the_crate_holds_what_git_holds_and_nothing_else(finished, assay):
    status, out, err = assay("crate", "run.zip")
    assert (status, err) == (0, "")
    assert out.strip() == str(finished / "run.zip")
    with zipfile.ZipFile("run.zip") as archive:
        names = set(archive.namelist())
    assert names == {*git("ls-files").split(), "ro-crate-metadata.json"}
    assert not names & {"secret.txt", *PRIVATE}


def test_each_stage_is_an_action_from_what_it_read_to_what_it_made(finished, assay):
    assay("crate", "run.zip")
    found = entities(Path("run.zip"))

    action = found["#stage/middle-toy%40x"]
    assert action["@type"] == "CreateAction"
    assert action["description"] == "echo cell x && cat a > b-x"
    assert ids(action["object"]) == ["#not-included/a", "params.yaml"]
    assert ids(action["result"]) == ["#not-included/b-x"]
    assert found["#not-included/b-x"]["identifier"].startswith("md5:")
    assert ids(found["#stage/first"]["object"]) == ["input"]
    assert found["#run"]["instrument"] == {"@id": "dvc.yaml"}
    assert found["./"]["version"] == git("rev-parse", "HEAD")
    assert {"#run", "#stage/first", "#stage/last"} < set(ids(found["./"]["mentions"]))


def test_a_stage_that_there_is_no_longer_is_no_action(finished, assay, reproduce):
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("variant: [x, y]", "variant: [x, y, z]"))
    reproduce()
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("variant: [x, y, z]", "variant: [x, y]"))
    git("commit", "--quiet", "--all", "--message", "two again")
    assert "middle-toy@z" in Path("dvc.lock").read_text()
    assert assay("crate", "run.zip")[0] == 0
    assert {name for name in entities(Path("run.zip")) if name.startswith("#stage/middle")} == {
        "#stage/middle-toy%40x",
        "#stage/middle-toy%40y",
    }


def test_the_crate_keeps_what_the_profile_demands(finished, assay):
    """The MUSTs of RO-Crate 1.1, Process Run Crate 0.5 and Workflow Run Crate 0.5 that can be checked offline."""
    assay("crate", "run.zip")
    found = entities(Path("run.zip"))

    assert "https://w3id.org/ro/crate/1.1" in ids(found["ro-crate-metadata.json"]["conformsTo"])
    root = found["./"]
    assert root["name"]
    assert root["description"]
    assert root["datePublished"]
    assert {"https://w3id.org/ro/wfrun/process/0.5", "https://w3id.org/ro/wfrun/workflow/0.5"} < set(
        ids(root["conformsTo"])
    )
    assert root["mainEntity"] == {"@id": "dvc.yaml"}
    assert "ComputationalWorkflow" in found["dvc.yaml"]["@type"]
    assert found["https://dvc.org"]["name"] == "Data Version Control"
    for entity in found.values():
        if entity["@type"] == "FormalParameter":
            assert entity["additionalType"] == "File"
            assert all(found[each]["exampleOfWork"] == {"@id": entity["@id"]} for each in ids(entity["workExample"]))
        if entity["@type"] == "CreateAction":
            assert entity["instrument"]["@id"] in found
    # Every reference leads somewhere: the library reads it back.
    again = ROCrate("run.zip")
    assert again.mainEntity.id == "dvc.yaml"
    referred = {each for entity in found.values() for value in entity.values() for each in references(value)}
    assert {each for each in referred if not each.startswith("http")} <= set(found)


def references(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each["@id"] for each in values if isinstance(each, dict) and "@id" in each]


def test_a_stage_says_when_it_ran_if_that_is_known(finished, assay):
    timing = Path("reports/timings/middle-toy-x.json")
    timing.parent.mkdir()
    timing.write_text(json.dumps({"seconds": 60.0}))
    os.utime(timing, (1_800_000_000, 1_800_000_000))

    assay("crate", "run.zip")

    found = entities(Path("run.zip"))
    assert found["#stage/middle-toy%40x"]["startTime"] == "2027-01-15T07:59:00+00:00"
    assert found["#stage/middle-toy%40x"]["endTime"] == "2027-01-15T08:00:00+00:00"
    assert "agent" in found["#stage/middle-toy%40x"]
    # Of the others nobody here knows when they ran, or who had them run.
    assert not {"endTime", "agent"} & set(found["#stage/last"])
    assert not {"startTime", "agent"} & set(found["#run"])
    assert found["#run"]["endTime"] == git("log", "-1", "--format=%cI", "--", "dvc.lock")


def test_results_in_git_are_files_of_the_crate(project, reproduce, assay):
    stage = "{cmd: mkdir -p out && echo 1 > out/one && echo 2 > two, outs: [out: {cache: false}, two: {cache: false}]}"
    project({"dvc.yaml": f"stages:\n  only: {stage}\n"})
    reproduce()
    git("add", "--all")
    git("commit", "--quiet", "--message", "run")

    assert assay("crate", "run.zip")[0] == 0

    found = entities(Path("run.zip"))
    assert ids(found["#stage/only"]["result"]) == ["out/", "two"]
    assert found["out/"]["hasPart"] == {"@id": "out/one"}
    assert set(ids(found["#run"]["result"])) == {"out/one", "two"}
    with zipfile.ZipFile("run.zip") as archive:
        assert "out/" in archive.namelist()


def test_a_link_is_refused_since_git_does_not_hold_what_it_leads_to(finished, assay):
    Path("leak").symlink_to(finished / "secret.txt")
    git("add", "leak")
    status, _, err = assay("crate", "run.zip")
    assert (status, err.count("\n")) == (2, 1)
    assert "error: leak: a link: git holds it, and not what it leads to" in err


def test_uncommitted_changes_are_said(finished, assay):
    Path(".gitignore").write_text(Path(".gitignore").read_text() + "# more\n")
    assay("crate", "run.zip")
    assert entities(Path("run.zip"))["./"]["version"].endswith(" with uncommitted changes")


def test_results_that_are_not_up_to_date_are_refused(finished, assay):
    Path("input").write_text("two\n")
    status, out, err = assay("crate", "run.zip")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "dvc.lock: first and 3 more would run again; `assay run` first" in err
    assert not list(Path().glob("*run.zip*"))


def test_a_place_that_cannot_be_written_is_one_line(finished, assay):
    status, out, err = assay("crate", "input/run.zip")
    assert (status, out) == (2, "")
    assert err == f"error: {finished / 'input/run.zip'}: cannot be written (File exists); give a file that can be\n"


def test_another_suffix_and_what_git_does_not_hold_are_refused(finished, assay):
    status, _, err = assay("crate", "run.tar")
    assert (status, err) == (2, f"error: {finished / 'run.tar'}: not a .zip file; give a name that ends in .zip\n")
    git("rm", "--quiet", "--cached", "dvc.lock")
    status, _, err = assay("crate", "run.zip")
    assert (status, err) == (2, "error: dvc.lock: git does not hold it; `git add dvc.lock`\n")
