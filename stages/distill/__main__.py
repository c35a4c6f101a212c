"""Distill the students of one cell from their teachers: one student per seed."""

from stages import command, pool


def main() -> str:
    """Distill the cell named on the command line."""
    options = command.arguments("distill", str(__doc__), "study", "cell")
    # torch takes seconds to import: the workers' server does it while this process does.
    pool.start("stages.fitting.cell")
    from stages.distill.settings import DistillSettings
    from stages.distill.student import fit
    from stages.fitting.cell import run_cell

    return run_cell("distill", options.study, options.cell, DistillSettings, fit, needs_clients=False)


if __name__ == "__main__":
    command.run(main)
