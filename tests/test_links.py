"""Whether what a page links to is there, for a reader who has nothing but what is in git."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "data/*.md")
    for path in ROOT.glob(pattern)
)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# Target of an inline link or image, of a reference, or of an HTML attribute.
LINK = re.compile(r"""\]\(<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)|(?:href|src)=["']([^"']+)""", re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
NAMED = re.compile(r"""<\w+ (?:name|id)=["']([^"']+)""")


@cache
def in_git() -> frozenset[str]:
    """Return the files of the repository and the folders they are in, from its root."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [Path(name) for name in listed if name and (ROOT / name).exists()]
    return frozenset(path.as_posix() for file in files for path in (file, *file.parents))


def links(page: str) -> list[str]:
    return [next(filter(None, groups)) for groups in LINK.findall(CODE.sub("", page))]


def anchors(page: str) -> set[str]:
    """Return what GitHub lets a link name in a page: headings as it writes them, and names given by hand."""
    found: set[str] = set(NAMED.findall(page))
    for heading in HEADING.findall(re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(next(name for number in range(99) if (name := f"{slug}-{number}" if number else slug) not in found))
    return found


def broken(page: str, path: Path) -> list[str]:
    """Return the relative links of a page at a path from the root that lead nowhere."""
    wrong = []
    for link in links(page):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        found = os.path.normpath(path.parent / target)
        there = not target or found in in_git()
        if there and anchor:
            there = anchor in anchors((ROOT / found).read_text(encoding="utf-8") if target else page)
        if not there:
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_what_a_page_links_to_is_there(path: Path) -> None:
    assert broken((ROOT / path).read_text(encoding="utf-8"), path) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    good = ["engine.md", "./engine.md#with-prefect", "studies/", "../README.md#studies", "#here-it-is-1", "https://x.y"]
    bad = ["engin.md", "engine.md#without", "Studies/", "../../README.md", "../reports/index.html", "#there"]
    page = "# Here, it is\n## Here it is\n" + "".join(f"[text]({link})\n" for link in [*good, *bad])
    assert broken(page + "`[code](nowhere.md)`", Path("docs/page.md")) == bad
