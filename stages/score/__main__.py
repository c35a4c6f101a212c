"""Measure how fair the models of one cell are, by the `measures` that its settings name."""

from stages.common import command
from stages.measuring.command import start
from stages.score.settings import ScoreSettings


def main() -> str:
    """Score the cell named on the command line."""
    cell = start("score", str(__doc__), ScoreSettings)
    # It imports torch, as the workers' server does by now.
    from stages.score.cell import score_cell

    score_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
