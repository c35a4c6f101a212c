from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.common.errors import InputError
from stages.common.settings import read_parameters
from stages.results.claims import CLAIMS, read_claims
from stages.results.sources import studies

ROOT = Path(__file__).parents[3]
CLAIM: dict[str, Any] = {
    "id": "some-gap",
    "where": "table 2",
    "statement": "One is above the other.",
    "kind": "ordering",
    "status": "read",
    "metric": "test/accuracy",
    "left": "one",
    "right": "other",
    "direction": "greater",
}
NUMBER = {"kind": "number", "right": None, "published": {"value": 0.5, "decimals": 1}, "margin": 0.1, "direction": None}
PAPER = {"title": "A paper", "venue": "ICML", "id": "arXiv:0000.00000"}
FILES = sorted((ROOT / CLAIMS).glob("*.yaml"))


def written(folder: Path, *claims: dict[str, Any]) -> Path:
    path = folder / "toy.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump({"paper": PAPER, "claims": list(claims)}, file)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_projects_own_claims_are_valid_and_no_recalled_number_is_among_them(path):
    for claim in read_claims(path).claims:
        assert claim.status == "read" or claim.published is None


def test_every_study_of_a_paper_has_claims():
    # These are nobody's paper.
    ours = {"joint", "protected_status", "sensitivity_penalty"}
    assert set(studies(read_parameters(ROOT / "params.yaml"))) - ours <= {path.stem for path in FILES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hope"}, r"toy\.yaml: claims\.some-gap\.kind: input should be 'number'"),
        ({"id": "Some Gap"}, r"claims\.Some Gap\.id: string should match pattern"),
        ({"right": None}, "some-gap: kind: ordering needs right"),
        ({"direction": "at most"}, "at most and at least are of bounds"),
        ({"metric": "test/charm"}, "metric: test/charm is not"),
        ({"metric": "accuracy"}, "metric: accuracy is not"),
        ({"published": {"value": 0.5, "decimals": 1}}, "kind: ordering has no published number"),
        (NUMBER | {"status": "recalled"}, "status: recalled has no published number: nobody could read it"),
        (NUMBER | {"published": {"value": 0.5, "decimals": 1, "sd": 0.1}}, "sd and n are given together"),
        (NUMBER | {"published": {"value": "0.5", "decimals": 1}}, "published.value: input should be a valid number"),
        (NUMBER | {"margin": None}, "kind: number needs margin"),
        ({"kind": "no difference", "direction": None}, "kind: no difference needs margin"),
        (NUMBER | {"right": "other"}, "kind: number compares with what was published, not with right"),
        ({"beyond": ["third"]}, r"some-gap\.beyond: list should have at least 2 items"),
        ({"beyond": ["third", "fourth", "fifth"]}, r"some-gap\.beyond: list should have at most 2 items"),
        (
            {"kind": "no difference", "direction": None, "margin": 0.1, "beyond": ["third", "fourth"]},
            "kind: no difference has no beyond: only an ordering compares two differences",
        ),
        (
            NUMBER | {"beyond": ["third", "fourth"]},
            "kind: number has no beyond: only an ordering compares two differences",
        ),
        ({"alpha": 1.0}, "alpha: input should be less than 1"),
        ({"differs": "other data", "awaits": "other code"}, "differs and awaits: give one of them"),
        ({"colour": "red"}, "colour: extra inputs are not permitted"),
    ],
)
def test_a_wrong_claim_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_claims(written(tmp_path, CLAIM | changes))


def test_a_claim_that_is_given_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="id: some-gap is given twice"):
        read_claims(written(tmp_path, CLAIM, CLAIM))


def test_a_family_that_is_too_large_is_refused(tmp_path):
    claims = [CLAIM | {"id": f"gap-{number}", "family": "gaps"} for number in range(21)]
    with pytest.raises(InputError, match="family: gaps has more than 20 claims"):
        read_claims(written(tmp_path, *claims))


@pytest.mark.parametrize(
    ("text", "message"),
    [("paper: [", "not YAML"), ("[]", "top level"), ("{}", "paper: field required"), ("\xff", "not YAML")],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "toy.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        read_claims(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"toy\.yaml: no such file"):
        read_claims(tmp_path / "toy.yaml")
