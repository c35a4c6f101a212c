"""Distill the students of one cell from their teachers: one student per seed."""

from stages.common import command, pool
from stages.common.settings import cell_settings, read_parameters
from stages.distill.settings import DistillSettings


def main() -> str:
    """Distill the cell named on the command line."""
    options = command.arguments("distill", str(__doc__), "study", "cell")
    settings = cell_settings(read_parameters(), options.study, "distill", options.cell, DistillSettings)
    # torch takes seconds to import, its first optimiser one more: the workers' server does it while this process does.
    pool.start(len(settings.seeds), "stages.distill.student", "torch._dynamo")
    from stages.distill.student import fit
    from stages.fitting.cell import run_cell

    run_cell("distill", options.study, options.cell, settings, fit, needs_clients=False)
    return f"distill-{options.study}-{options.cell}"


if __name__ == "__main__":
    command.run(main)
