"""The page in a real browser that has no network: it loads, its tables sort, its links lead somewhere."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next(filter(None, map(shutil.which, INSTALLED)), None)
pytestmark = pytest.mark.skipif(not FOUND, reason=f"no browser here: none of {', '.join(INSTALLED)}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start for root.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=FOUND, args=root) as launched:
            yield launched


@pytest.fixture
def troubles() -> list[str]:
    """What went wrong on the page: console errors, exceptions, failed requests, and requests for another file."""
    return []


@pytest.fixture
def page(browser: Browser, report: Path, troubles: list[str]) -> Iterator[Page]:
    """The page of the synthetic project, at 1280 pixels."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, offline=True) as context:
        opened = context.new_page()
        opened.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        opened.on("request", lambda request: troubles.append(request.url) if "index.html" not in request.url else None)
        opened.goto((report / "index.html").as_uri())
        yield opened


def cells(page: Page, table: str, column: int) -> list[str]:
    rows = page.locator(f".scroll[aria-label='{table}'] tbody tr:not(.metric)")
    return [row.locator("th, td").nth(column).inner_text().split()[0] for row in rows.all()]


def test_the_page_asks_for_nothing_and_complains_of_nothing(page: Page, troubles: list[str]) -> None:
    assert page.title() == "Assay: results of the quick profile"
    assert troubles == []


def test_a_table_sorts_up_down_and_back(page: Page, troubles: list[str]) -> None:
    table = "Table: Whole, Joint: utility, guarantee and what was measured further, of the same models"
    heading = page.locator(f".scroll[aria-label='{table}'] thead th").nth(7)
    given = cells(page, table, 7)
    numbers = sorted((text for text in given if text[0].isdigit()), key=float)
    missing = [text for text in given if not text[0].isdigit()]
    assert missing

    heading.get_by_role("button").click()
    assert cells(page, table, 7) == numbers + missing
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert cells(page, table, 7) == numbers[::-1] + missing
    heading.get_by_role("button").press("Enter")
    assert cells(page, table, 7) == given
    assert heading.get_attribute("aria-sort") is None
    assert troubles == []


def test_rows_stay_in_their_section(page: Page) -> None:
    table = "Table: Whole, Train: what the models can do, and what their training guarantees"
    sections = page.locator(f".scroll[aria-label='{table}'] tbody")
    before = [sorted(section.inner_text().split("\n")) for section in sections.all()]

    page.locator(f".scroll[aria-label='{table}'] thead button").first.click()

    assert cells(page, table, 0)[:4] == ["control", "dpsgd", "fedavg", "none"]
    assert [sorted(section.inner_text().split("\n")) for section in sections.all()] == before
    assert sections.first.locator("tr").first.get_attribute("class") == "metric"


def test_a_link_leads_to_its_part(page: Page) -> None:
    page.get_by_role("link", name="Trained only").click()
    assert page.url.endswith("#trained_only")
    expect(page.locator("#trained_only")).to_be_in_viewport()


def test_what_is_folded_opens_for_a_link_to_it(page: Page) -> None:
    page.goto(f"{page.url}#whole-runs")
    page.locator("#whole-runs summary").click()
    assert page.get_by_text("python -m stages.federate --study whole --cell fedavg").is_visible()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(page: Page, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})

    assert page.evaluate("document.documentElement.scrollWidth") == width
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shade == ("rgb(22, 24, 27)" if scheme == "dark" else "rgb(251, 250, 247)")


def test_paper_shows_what_the_screen_folds(page: Page) -> None:
    assert not page.get_by_text("python -m stages.federate --study whole --cell fedavg").is_visible()

    page.emulate_media(media="print")

    assert page.get_by_text("python -m stages.federate --study whole --cell fedavg").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_without_its_script_the_page_is_all_there(browser: Browser, report: Path) -> None:
    with browser.new_context(java_script_enabled=False, offline=True) as context:
        opened = context.new_page()
        opened.goto((report / "index.html").as_uri())

        assert opened.locator("thead button").count() == 0
        assert opened.locator("table").count() == 8
        assert opened.locator("svg").count() == 8
