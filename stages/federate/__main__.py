"""Train the models of one cell by federated learning over a partition: one simulation per seed."""

from functools import partial

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.federate.settings import FederateSettings


def main() -> str:
    """Simulate the cell named on the command line."""
    options = command.arguments("federate", str(__doc__), "study", "cell")
    parameters = read_parameters()
    cell = read_cell(parameters, options.study, "federate", options.cell, FederateSettings)
    seeds = len(cell.settings.seeds)
    # A cluster has room for one seed's clients.
    at_once, processes = pool.share(seeds) if cell.settings.backend == "processes" else (1, 1)
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start(max(at_once, processes), "stages.federate.simulation")
    from stages.federate.simulation import fit
    from stages.fitting.cell import run_cell

    run_cell(cell, parameters, partial(fit, processes=processes), at_once)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
