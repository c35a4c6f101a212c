"""Extract the secrets of the training text from the models of one cell, and rank them among all codes."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.extract.settings import ExtractSettings


def main() -> str:
    """Extract from the cell named on the command line."""
    options = command.arguments("extract", str(__doc__), "study", "cell")
    cell = read_cell(read_parameters(), options.study, "extract", options.cell, ExtractSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.extract.cell")
    from stages.extract.cell import extract_cell

    extract_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
