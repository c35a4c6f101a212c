"""Train the models of one cell by federated averaging over a partition: one simulation per seed."""

from stages import command, pool


def main() -> str:
    """Simulate the cell named on the command line."""
    options = command.arguments("federate", str(__doc__), "study", "cell")
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start("stages.fitting.cell")
    from stages.federate.settings import FederateSettings
    from stages.federate.simulation import fit
    from stages.fitting.cell import run_cell

    return run_cell("federate", options.study, options.cell, FederateSettings, fit, needs_clients=True)


if __name__ == "__main__":
    command.run(main)
