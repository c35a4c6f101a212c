"""Whether the tables of results on the studies' pages hold what the last run gave."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/studies").glob("*.md"))
RESULTS = re.compile(r"^\*\*What came of it\*\*.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([^`]+)` \|(.+)\|$", re.MULTILINE)
# Pages that show no results as a table.
WITHOUT = {"distillation", "federated_freezing", "joint"}
NUMBER = re.compile(r"-?\d*\.?\d+")
SHOWN = ["mean", "ci_low", "ci_high"]


def stale(page: str, results: pd.DataFrame) -> list[str]:
    """Return what stands in the result tables of a page, and is no metric of the same cell.

    Args:
        page: The page's text. A mean may have its interval behind it; all are rounded as they stand there.
        results: A row per cell and metric: columns cell, mean, ci_low, ci_high.
    """
    known = {str(cell): rows[SHOWN].to_numpy().tolist() for cell, rows in results.groupby("cell")}
    wrong = []
    for cell, row in rows_of_results(page):
        for text in map(str.strip, row.split("|")):
            shown = NUMBER.findall(text)
            fits = (all(map(is_rounded, shown, numbers)) for numbers in known.get(cell, []))
            if len(shown) > len(SHOWN) or not any(fits):
                wrong.append(f"{cell}: {text}")
    return wrong


def rows_of_results(page: str) -> list[tuple[str, str]]:
    """Return the cell and the rest of each row of a page's result tables."""
    return ROW.findall("".join(RESULTS.findall(page)))


def tables(page: Path) -> list[Path]:
    """Return the tables of a page's study but the joint one, which has nothing that the others do not have."""
    return [path for path in (ROOT / "reports/tables" / page.stem).glob("*.csv") if path.stem != "joint"]


def reported(page: Path) -> bool:
    """Return whether there is anything to compare: of a study that the profile leaves out there is not."""
    return bool(tables(page) or rows_of_results(page.read_text(encoding="utf-8")))


def is_rounded(shown: str, value: float) -> bool:
    half = 0.5 * 10.0 ** -len(shown.partition(".")[2])
    return abs(float(shown) - value) <= half + 1e-9


@pytest.mark.parametrize("page", [*filter(reported, PAGES)], ids=lambda path: path.stem)
def test_a_page_shows_what_the_last_run_gave(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert stale(text, pd.concat(map(pd.read_csv, tables(page)))) == []


def test_every_other_page_has_a_table_of_results() -> None:
    assert {page.stem for page in PAGES if not rows_of_results(page.read_text(encoding="utf-8"))} == WITHOUT


def test_a_number_of_another_run_is_found() -> None:
    table = pd.DataFrame({"cell": ["one"], "mean": [0.5], "ci_low": [0.446], "ci_high": [1.0]})
    page = "**What came of it** by cell\n\n| `one` | {} |\n\n## More\n\n| `one` | .9 |\n"
    good = (".50 [.45, 1.00]", "0.5", "-", ".500 [.446, 1.000]")
    assert stale(page.format(" | ".join(good)), table) == []
    bad = (".51 [.45, 1.00]", ".50 [.44, 1.00]", "1.5", ".50 [.45, 1.00] of 3")
    assert stale(page.format(" | ".join(bad)), table) == [f"one: {text}" for text in bad]
    assert stale(page.format(".50").replace("one", "two"), table) == ["two: .50"]
