"""The page: one HTML file that needs no network, no script and no other file."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from ruamel.yaml import YAML

from stages.report.figures import Figure
from stages.report.tables import Table
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
    """What the page shows of one study."""

    name: str
    tables: list[Table]
    figures: list[Figure]
    runs: list[Run]

    @property
    def title(self) -> str:
        """Its title."""
        return title(self.name)

    @property
    def question(self) -> str:
        """Its question in studies.yaml, or nothing."""
        return _described(self.name).get("question", "")


def render(profile: str, studies: list[Study], verdicts: list[Verdict]) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = (HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        profile=profile, studies=studies, verdicts=verdicts, title=title, style=style
    )


def title(study: str) -> str:
    """Return a study's title in studies.yaml, or its own name."""
    return _described(study).get("title", study.replace("_", " ").capitalize())


@cache
def _described(name: str) -> dict[str, str]:
    known = YAML(typ="safe", pure=True).load((HERE / "studies.yaml").read_text(encoding="utf-8"))
    found: dict[str, str] = known.get(name, {})
    return found
