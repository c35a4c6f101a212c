"""Attack the models of one cell: infer which examples each was trained on."""

from stages.attack.settings import AttackSettings
from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters


def main() -> str:
    """Attack the cell named on the command line."""
    options = command.arguments("attack", str(__doc__), "study", "cell")
    cell = read_cell(read_parameters(), options.study, "attack", options.cell, AttackSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.attack.cell")
    from stages.attack.cell import attack_cell

    attack_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
