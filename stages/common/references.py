"""How the settings of a verb say which other cells it reads: `target: Annotated[str, Refers("train")]`."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel


@dataclass(frozen=True)
class Refers:
    """Marks a setting that names another cell, of which a folder is read.

    Args:
        verb: Whose cell of the same study it names; None for `<study>/<cell>` of any verb that leaves a model.
        folder: What is read of it, as `Place.data` has it.
        named: Where alone it may be named, so that DVC watches it: in `base`, for all cells, or by each value of an
            axis; None if anywhere.
    """

    verb: str | None
    folder: str = "models"
    named: Literal["base", "values"] | None = None


def references(schema: type[BaseModel]) -> dict[str, Refers]:
    """Return the settings of a verb that name other cells, each with what it says."""
    marks = ((name, mark) for name, field in schema.model_fields.items() for mark in field.metadata)
    return {name: mark for name, mark in marks if isinstance(mark, Refers)}
