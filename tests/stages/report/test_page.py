from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.common.settings import read_parameters
from stages.report.build import build
from stages.report.page import Run, Study, render
from stages.report.tables import Table
from stages.results.sources import reported_studies


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def attributes(self, *names: str) -> Iterator[str]:
        for _, attributes in self.found:
            yield from (value for name in names if (value := attributes.get(name)))


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_no_other_file(html: str) -> None:
    elements = Elements(html)

    assert not {"link", "iframe", "object"} & {tag for tag, _ in elements.found}
    assert not list(elements.attributes("src", "srcset", "xlink:href"))
    assert "@import" not in html
    assert "url(http" not in html
    assert all(not link.startswith(("http:", "https:", "//")) for link in elements.attributes("href"))
    (policy,) = [given["content"] for tag, given in elements.found if given.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert len(html.encode()) < 5_000_000


def test_every_link_leads_somewhere(html: str, report: Path) -> None:
    elements = Elements(html)
    ids = list(elements.attributes("id"))

    assert len(ids) == len(set(ids))
    for link in elements.attributes("href"):
        assert link[1:] in ids if link.startswith("#") else (report / link).exists()


def test_every_figure_and_every_scrolling_table_is_named(html: str) -> None:
    elements = Elements(html)

    figures = [attributes for tag, attributes in elements.found if tag == "svg"]
    tables = [attributes for _, attributes in elements.found if attributes.get("role") == "region"]
    assert len(figures) == 8
    assert len(tables) == 8
    assert all(attributes.get("aria-label") for attributes in figures + tables)


def test_the_page_tells_how_to_make_each_cell_again(html: str) -> None:
    assert "<code>python -m stages.federate --study whole --cell fedavg</code>" in html
    assert "<td>0, 1, 2</td>" in html
    assert "0123456789abcdef" * 4 in html


def test_only_the_smoke_profile_is_warned_of() -> None:
    warning = "no conclusion can be drawn"

    assert warning not in render("quick", [], [])
    assert warning in render("smoke", [], [])


def test_a_known_study_has_its_question_and_any_other_its_name() -> None:
    page = render("quick", [Study("joint"), Study("my_own")], [])

    assert "What do the same models give in utility, privacy, leakage and fairness at once?" in page
    assert ">My own</a>" in page


def test_names_are_escaped() -> None:
    page = render("quick", [Study("study", runs=[Run("train", "<b>bold & co", "a < b", "ab", "0")])], [])

    assert "<b>" not in page
    assert "&lt;b&gt;bold &amp; co" in page


def test_claims_are_judged_at_the_top_of_the_page(project: Path, parameters: dict[str, Any]) -> None:
    claim = (
        "{id: gap, where: table 1, statement: One <b> is above., kind: ordering, status: read, metric: test/accuracy, "
    )
    claim += "left: none, right: dpsgd, direction: greater, profile: quick}"
    Path("reports/claims").mkdir(parents=True)
    paper = "paper: {title: A paper, venue: ICML, id: 'arXiv:0'}"
    unverified = "unverified: [Which <b> was meant.]"
    Path("reports/claims/whole.yaml").write_text(f"{paper}\n{unverified}\nclaims:\n- {claim}\n")
    Path("reports/claims/other.yaml").write_text(
        f"{paper}\nclaims:\n- {{id: a, where: w, statement: s, kind: ordering, status: read, awaits: an attack}}\n"
    )

    build(parameters, reported_studies(parameters), Path("reports"))

    verdicts = pd.read_csv("reports/verdicts.csv")
    assert list(verdicts["study"]) == ["other", "whole"]
    assert verdicts["verdict"][0] == "not run"
    page = Path("reports/index.html").read_text()
    assert page.index('id="verdicts"') < page.index('id="results"')
    assert "One &lt;b&gt; is above." in page
    assert "not there yet: an attack" in page
    # And in its study's part: what the paper is, with a link to the verdict, and what could not be verified.
    of_study = page[page.index('<h2 id="whole">') : page.index('<h2 id="trained_only">')]
    assert "<cite>A paper</cite>, ICML, arXiv:0. 1 reproduced." in of_study
    assert '<a href="#claim-whole-gap">reproduced</a>' in of_study
    assert "<li>Which &lt;b&gt; was meant.</li>" in of_study
    # A study that is not there yet has its part, too.
    assert '<h2 id="other">Other' in page
    assert "<em>No results yet.</em>" in page


def test_the_page_says_what_it_was_made_with(html: str) -> None:
    assert "<li>scipy 0.1 <strong>(installed: " in html
    assert "<li>words 1.0 <strong>(installed: none)</strong></li>" in html


def test_without_claims_there_is_no_table_of_them(report: Path) -> None:
    assert 'id="verdicts"' not in (report / "index.html").read_text(encoding="utf-8")


def test_every_study_with_results_has_its_notes() -> None:
    root = Path(__file__).parents[3]
    table = Table("train", "", pd.DataFrame(), [], 0, [])

    for name in reported_studies(read_parameters(root / "params.yaml")):
        assert (root / Study(name, [table]).notes).is_file(), name
    assert Study("joint").notes == Study("no_such_study", [table]).notes == ""
