"""Attack the models of one cell: infer from the loss which examples each was trained on."""

from stages.attack.settings import AttackSettings
from stages.common import command
from stages.common.settings import cell_settings, read_parameters


def main() -> str:
    """Attack the cell named on the command line."""
    options = command.arguments("attack", str(__doc__), "study", "cell")
    settings = cell_settings(read_parameters(), options.study, "attack", options.cell, AttackSettings)
    # torch takes seconds to import, and nobody waits that long for --help or for an error.
    from stages.attack.cell import attack_cell

    attack_cell(options.study, options.cell, settings)
    return f"attack-{options.study}-{options.cell}"


if __name__ == "__main__":
    command.run(main)
