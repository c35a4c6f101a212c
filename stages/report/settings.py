"""The `report` block of params.yaml."""

from typing import Any

from pydantic import Field

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Settings, block, parse


class ReportSettings(Settings):
    """For a study the utility that its federations' rounds are counted to."""

    targets: dict[str, float] = Field(default_factory=dict)


def targets(parameters: dict[str, Any]) -> dict[str, float]:
    """Return by study the utility that federations are timed to, in rounds."""
    return parse(ReportSettings, parameters.get("report") or {}, "report").targets


def profile(parameters: dict[str, Any]) -> str:
    """Return the name of the profile."""
    name = block(parameters, "profile")
    if not isinstance(name, str):
        raise InputError(f"{PARAMETERS}: profile", f"{name!r} is not allowed", "give the name of a profile")
    return name
