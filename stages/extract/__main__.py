"""Extract the secrets of the training text from the models of one cell, and rank them among all codes."""

from stages.common import command
from stages.extract.settings import ExtractSettings
from stages.measuring.command import start


def main() -> str:
    """Extract from the cell named on the command line."""
    cell = start("extract", str(__doc__), ExtractSettings)
    # It imports torch, as the workers' server does by now.
    from stages.extract.cell import extract_cell

    extract_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
