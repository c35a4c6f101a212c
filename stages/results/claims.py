"""What papers state, as files: reports/claims/<study>.yaml, written by hand, each statement with its source.

A number that could not be read in a public source is no published number: such a claim is `recalled` and has none.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError
from stages.common.settings import Settings
from stages.results.metrics import METRICS

CLAIMS = Path("reports/claims")
PROFILES = ("smoke", "quick", "grid", "full", "paper")
Profile = Literal["quick", "grid", "full", "paper"]


class Published(Settings):
    """A number as it is printed: its decimals, and what is said of its spread over `n` runs."""

    value: float
    decimals: int = Field(ge=0)
    sd: float | None = Field(None, ge=0)
    n: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _spread_has_n(self) -> Self:
        if (self.sd is None) != (self.n is None):
            raise ValueError("sd and n are given together, or neither is known")
        return self


class Claim(Settings):
    """One statement of a paper, and how it is put to the test.

    Attributes:
        id: Its name within the study.
        where: The place of the statement, so that anyone can look it up.
        statement: In our words.
        kind: `number` (a value), `bound` (at most or at least a value), `ordering` (one cell above or below another),
            `no difference` (equal up to `margin`).
        status: `read` in a public source, or `recalled`: then no number is given.
        published: The number of a `number` or a `bound`.
        metric: `split/metric[/group]`.
        left: The cell that the statement is about.
        right: The cell it is compared with.
        beyond: Two more cells, of an ordering: what is compared with 0 is then the difference left less right, less
            the difference of these two, first less second.
        direction: `greater` or `less` for an ordering, and for a number if one side of it is better; `at most` or
            `at least` for a bound.
        margin: What counts as equal.
        test: `paired t`, or `sign-flip`, which needs ten pairs.
        alpha: Level, of the family as a whole.
        family: Claims that are judged together (Holm); a claim without one is its own.
        profile: The smallest profile whose results may judge it.
        differs: How our set-up differs so that nothing can be compared; the verdict is then `not comparable`.
        awaits: What has to be built before it can be put to the test; the verdict is then `not run`, and how to test it
            is said once that is there.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    where: str
    statement: str
    kind: Literal["number", "bound", "ordering", "no difference"]
    status: Literal["read", "recalled"]
    metric: str | None = None
    left: str | None = None
    published: Published | None = None
    right: str | None = None
    beyond: list[str] | None = Field(None, min_length=2, max_length=2)
    direction: Literal["greater", "less", "at most", "at least"] | None = None
    margin: float | None = Field(None, gt=0)
    test: Literal["paired t", "sign-flip"] = "paired t"
    alpha: float = Field(0.05, gt=0, lt=1)
    family: str | None = None
    profile: Profile = "full"
    differs: str | None = None
    awaits: str | None = None

    @property
    def decided(self) -> bool:
        """Whether there is nothing to compute."""
        return bool(self.differs or self.awaits)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needs = {
            "number": ["metric", "left", "margin"],
            "bound": ["metric", "left", "direction"],
            "ordering": ["metric", "left", "right", "direction"],
            "no difference": ["metric", "left", "right", "margin"],
        }[self.kind]
        if self.differs and self.awaits:
            raise ValueError("differs and awaits: give one of them")
        if not self.decided and (missing := [name for name in needs if getattr(self, name) is None]):
            raise ValueError(f"kind: {self.kind} needs {' and '.join(missing)}")
        of_bounds = self.direction in ("at most", "at least")
        if self.direction and (self.kind == "bound") != of_bounds:
            raise ValueError("direction: at most and at least are of bounds, greater and less of all else")
        if self.right and self.kind in ("number", "bound"):
            raise ValueError(f"kind: {self.kind} compares with what was published, not with right")
        if self.beyond and self.kind != "ordering":
            raise ValueError(f"kind: {self.kind} has no beyond: only an ordering compares two differences")
        if self.status == "recalled" and self.published:
            raise ValueError("status: recalled has no published number: nobody could read it")
        if self.published and self.kind not in ("number", "bound"):
            raise ValueError(f"kind: {self.kind} has no published number")
        parts = (self.metric or "").split("/", 2)
        if self.metric is not None and (len(parts) < 2 or parts[1] not in METRICS):
            raise ValueError(f"metric: {self.metric} is not split/metric[/group] of: {', '.join(METRICS)}")
        return self


class Paper(Settings):
    """Where the statements come from."""

    title: str
    venue: str
    id: str


class ClaimsFile(Settings):
    """The claims of one study, and what nobody could verify of its paper: said on the page, in our words."""

    paper: Paper
    unverified: list[str] = Field(default_factory=list)
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [claim.id for claim in self.claims]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"id: {', '.join(twice)} is given twice")
        families = [claim.family for claim in self.claims if claim.family]
        if large := [name for name in set(families) if families.count(name) > 20]:
            raise ValueError(f"family: {large[0]} has more than 20 claims; split it")
        return self


def read_claims(path: Path) -> ClaimsFile:
    """Read one claims file; the InputError names the file, the claim, its key and what is wrong."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a study's claims are reports/claims/<study>.yaml") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not YAML ({error})", "mend the line it names") from None
    try:
        return ClaimsFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(_named(part, content) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where or 'top level'}", message[:1].lower() + message[1:], "mend it") from None


def _named(part: int | str, content: object) -> str:
    # A claim is known by its id, not by its place.
    if isinstance(part, int) and isinstance(content, dict) and isinstance(content.get("claims"), list):
        claim = content["claims"][part]
        return str(claim.get("id", part)) if isinstance(claim, dict) else str(part)
    return str(part)
