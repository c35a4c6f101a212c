"""Audit the models of one cell: guess which canaries each was trained on, and bound its epsilon from below."""

from stages.audit.settings import AuditSettings
from stages.common import command
from stages.measuring.command import start


def main() -> str:
    """Audit the cell named on the command line."""
    cell = start("audit", str(__doc__), AuditSettings)
    # It imports torch, as the workers' server does by now.
    from stages.audit.cell import audit_cell

    audit_cell(cell)
    return cell.place.run


if __name__ == "__main__":
    command.run(main)
