"""Train the models of one cell centrally, ordinarily or by DP-SGD: one model per seed."""

from stages import command, pool


def main() -> str:
    """Train the cell named on the command line."""
    options = command.arguments("train", str(__doc__), "study", "cell")
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start("stages.fitting.cell")
    from stages.fitting.cell import run_cell
    from stages.train.mechanisms import fit
    from stages.train.settings import TrainSettings

    return run_cell("train", options.study, options.cell, TrainSettings, fit, needs_clients=False)


if __name__ == "__main__":
    command.run(main)
