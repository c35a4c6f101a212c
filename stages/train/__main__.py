"""Train the models of one cell centrally, ordinarily or by DP-SGD: one model per seed."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.train.settings import TrainSettings

PRELOADED = {
    "none": ["stages.train.mechanisms"],
    "dpsgd": ["stages.train.dpsgd", "stages.privacy.accounting"],
    "edpsgd": ["stages.train.dpsgd", "stages.privacy.accounting"],
}


def main() -> str:
    """Train the cell named on the command line."""
    options = command.arguments("train", str(__doc__), "study", "cell")
    parameters = read_parameters()
    cell = read_cell(parameters, options.study, "train", options.cell, TrainSettings)
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), *PRELOADED[cell.settings.mechanism])
    from stages.fitting.cell import run_cell
    from stages.train.mechanisms import fit

    run_cell(cell, parameters, fit)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
