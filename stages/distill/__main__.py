"""Distill the students of one cell from their teachers: one student per seed."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.distill.settings import DistillSettings


def main() -> str:
    """Distill the cell named on the command line."""
    options = command.arguments("distill", str(__doc__), "study", "cell")
    parameters = read_parameters()
    cell = read_cell(parameters, options.study, "distill", options.cell, DistillSettings)
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.distill.student")
    from stages.distill.student import fit
    from stages.fitting.cell import run_cell

    run_cell(cell, parameters, fit)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
