"""Score the models of one cell on the test split: group rates and gaps, counterfactual flips."""

from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters
from stages.score.settings import ScoreSettings


def main() -> str:
    """Score the cell named on the command line."""
    options = command.arguments("score", str(__doc__), "study", "cell")
    cell = read_cell(read_parameters(), options.study, "score", options.cell, ScoreSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.score.cell")
    from stages.score.cell import score_cell

    score_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
