"""Invert the gradients of the models of one cell: reconstruct private texts from the updates that clients send."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.invert.settings import InvertSettings


def main() -> str:
    """Invert the cell named on the command line."""
    options = command.arguments("invert", str(__doc__), "study", "cell")
    cell = read_cell(read_parameters(), options.study, "invert", options.cell, InvertSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.invert.cell")
    from stages.invert.cell import invert_cell

    invert_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
