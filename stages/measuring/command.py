"""How a verb that measures starts as a command. No torch here: it takes seconds to import."""

from stages.common import command, pool
from stages.common.cells import Cell, read_cell
from stages.common.settings import read_parameters
from stages.measuring.settings import Measuring


def start(verb: str, description: str, schema: type[Measuring]) -> Cell[Measuring]:
    """Return the cell named on the command line, and have the workers' server begin to import the verb's `cell`.

    The server imports torch with it, while this process does: import that module after this, not before.
    """
    options = command.arguments(verb, description, "study", "cell")
    cell = read_cell(read_parameters(), options.study, verb, options.cell, schema)
    pool.start(len(cell.settings.seeds), f"stages.{verb}.cell")
    return cell
