"""Train the models of one cell by federated averaging over a partition: one simulation per seed."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.federate.settings import FederateSettings


def main() -> str:
    """Simulate the cell named on the command line."""
    options = command.arguments("federate", str(__doc__), "study", "cell")
    parameters = read_parameters()
    cell = read_cell(parameters, options.study, "federate", options.cell, FederateSettings)
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.federate.simulation")
    from stages.federate.simulation import fit
    from stages.fitting.cell import run_cell

    run_cell(cell, parameters, fit)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
