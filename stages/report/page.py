"""The page: one HTML file that needs no network and no other file; without its script it is only not sortable."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
from ruamel.yaml import YAML

from stages.report.drawing import Figure
from stages.report.tables import Table
from stages.report.versions import Package
from stages.results.claims import ClaimsFile
from stages.results.verdicts import Verdict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """How to make one cell again: its verb and name, its command, the hash of what it read, and its seeds."""

    verb: str
    cell: str
    command: str
    inputs_sha256: str
    seeds: str


@dataclass(frozen=True)
class Study:
    """What the page shows of one study; one that is not there yet has only what its paper states."""

    name: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    claims: ClaimsFile | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its title in studies.yaml, or its own name."""
        return _described(self.name).get("title", self.name.replace("_", " ").capitalize())

    @property
    def question(self) -> str:
        """Its question in studies.yaml, or nothing."""
        return _described(self.name).get("question", "")

    @property
    def notes(self) -> str:
        """The page of docs/ that says what it is and what to be careful about, or nothing.

        A study of which no more is here than what its paper states has none, nor has one that studies.yaml lacks.
        """
        return f"docs/studies/{self.name}.md" if self.tables and _described(self.name) else ""

    @property
    def outcome(self) -> str:
        """How many of its claims got which verdict, in words."""
        counts = Counter(verdict.word for verdict in self.verdicts)
        return ", ".join(f"{count} {word}" for word, count in counts.items())


def render(profile: str, studies: list[Study], packages: list[Package]) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    return environment.get_template("page.html").render(
        profile=profile, studies=studies, packages=packages, style=style, script=script
    )


@cache
def _described(name: str) -> dict[str, str]:
    known = YAML(typ="safe", pure=True).load((HERE / "studies.yaml").read_text(encoding="utf-8"))
    found: dict[str, str] = known.get(name, {})
    return found
