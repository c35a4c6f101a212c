"""Train the models of one cell centrally, ordinarily or by DP-SGD: one model per seed."""

from stages.common import command, pool
from stages.common.settings import cell_settings, read_parameters
from stages.train.settings import TrainSettings


def main() -> str:
    """Train the cell named on the command line."""
    options = command.arguments("train", str(__doc__), "study", "cell")
    settings = cell_settings(read_parameters(), options.study, "train", options.cell, TrainSettings)
    # torch takes seconds to import, its first optimiser one more: the workers' server does it while this process does.
    mechanism = ("stages.train.dpsgd", "stages.train.accounting") if settings.privacy else ("stages.train.mechanisms",)
    pool.start(len(settings.seeds), *mechanism, "torch._dynamo")
    from stages.fitting.cell import run_cell
    from stages.train.mechanisms import fit

    run_cell("train", options.study, options.cell, settings, fit, needs_clients=False)
    return f"train-{options.study}-{options.cell}"


if __name__ == "__main__":
    command.run(main)
