"""The `report` block of params.yaml."""

from typing import Any

from pydantic import Field

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Settings, block, parse
from stages.results.agreement import AgreementSettings
from stages.results.sources import studies


class ReportSettings(Settings):
    """For a study the utility that its federations' rounds are counted to, and the metrics of bias to compare."""

    targets: dict[str, float] = Field(default_factory=dict)
    agreement: dict[str, AgreementSettings] = Field(default_factory=dict)


def targets(parameters: dict[str, Any]) -> dict[str, float]:
    """Return by study the utility that federations are timed to, in rounds."""
    return parse(ReportSettings, parameters.get("report") or {}, "report").targets


def agreement(parameters: dict[str, Any]) -> dict[str, AgreementSettings]:
    """Return by study which metrics of bias are compared.

    Raises:
        InputError: A setting is wrong, or there is no such study.
    """
    found = parse(ReportSettings, parameters.get("report") or {}, "report").agreement
    for study in found:
        if study not in studies(parameters):
            where = f"{PARAMETERS}: report.agreement.{study}"
            raise InputError(where, "no such study", f"there are: {', '.join(studies(parameters))}")
    return found


def profile(parameters: dict[str, Any]) -> str:
    """Return the name of the profile."""
    name = block(parameters, "profile")
    if not isinstance(name, str):
        raise InputError(f"{PARAMETERS}: profile", f"{name!r} is not allowed", "give the name of a profile")
    return name
