"""Attack the models of one cell: infer which examples each was trained on."""

from stages.attack.settings import AttackSettings
from stages.common import command
from stages.measuring.command import start


def main() -> str:
    """Attack the cell named on the command line."""
    cell = start("attack", str(__doc__), AttackSettings)
    # It imports torch, as the workers' server does by now.
    from stages.attack.cell import attack_cell

    attack_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
