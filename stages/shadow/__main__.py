"""Train shadow models as one cell of `train` is trained, on random parts of the pool, and keep what they say of it."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.shadow.settings import ShadowSettings
from stages.train.settings import TrainSettings


def main() -> str:
    """Train the shadow models of the cell named on the command line."""
    options = command.arguments("shadow", str(__doc__), "study", "cell")
    parameters = read_parameters()
    cell = read_cell(parameters, options.study, "shadow", options.cell, ShadowSettings)
    training = read_cell(parameters, options.study, "train", options.cell, TrainSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(cell.settings.shadows, "stages.train.mechanisms")
    from stages.shadow.cell import run_cell

    run_cell(cell, training, parameters)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
