"""The `report` block of params.yaml."""

from typing import Any

from pydantic import Field, field_validator

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Settings, block, parse


class ReportSettings(Settings):
    """The studies on the page, in reading order, and for a study the utility that its rounds are counted to."""

    studies: list[str] = Field(min_length=1)
    targets: dict[str, float] = Field(default_factory=dict)

    @field_validator("studies")
    @classmethod
    def _distinct(cls, studies: list[str]) -> list[str]:
        if len(set(studies)) < len(studies):
            raise ValueError("each study is listed once")
        return studies


def reported_studies(parameters: dict[str, Any]) -> list[str]:
    """Return the studies that params.yaml puts on the page."""
    return parse(ReportSettings, block(parameters, "report"), "report").studies


def targets(parameters: dict[str, Any]) -> dict[str, float]:
    """Return by study the utility that federations are timed to, in rounds."""
    return parse(ReportSettings, block(parameters, "report"), "report").targets


def profile(parameters: dict[str, Any]) -> str:
    """Return the name of the profile."""
    name = block(parameters, "profile")
    if not isinstance(name, str):
        raise InputError(f"{PARAMETERS}: profile", f"{name!r} is not allowed", "give the name of a profile")
    return name
