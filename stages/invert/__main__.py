"""Invert the gradients of the models of one cell: reconstruct private texts from the updates that clients send."""

from stages.common import command
from stages.invert.settings import InvertSettings
from stages.measuring.command import start


def main() -> str:
    """Invert the cell named on the command line."""
    cell = start("invert", str(__doc__), InvertSettings)
    # It imports torch, as the workers' server does by now.
    from stages.invert.cell import invert_cell

    invert_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
