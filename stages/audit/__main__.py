"""Audit the models of one cell: guess which canaries each was trained on, and bound its epsilon from below."""

from stages.audit.settings import AuditSettings
from stages.common import command, pool
from stages.common.cells import read_cell
from stages.common.settings import read_parameters


def main() -> str:
    """Audit the cell named on the command line."""
    options = command.arguments("audit", str(__doc__), "study", "cell")
    cell = read_cell(read_parameters(), options.study, "audit", options.cell, AuditSettings)
    # torch takes seconds to import; the workers' server does it while this process does.
    pool.start(len(cell.settings.seeds), "stages.audit.cell")
    from stages.audit.cell import audit_cell

    audit_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
