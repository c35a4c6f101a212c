"""The command: `python -m stages.report`."""

import argparse
from pathlib import Path

from stages.common.command import run
from stages.common.settings import read_parameters
from stages.report.build import build
from stages.report.terminal import show
from stages.results.sources import reported_studies

REPORTS = Path("reports")


def main() -> str:
    """Write the report, or show one study and write its preview."""
    study = _arguments().study
    parameters = read_parameters()
    if study is None:
        build(parameters, reported_studies(parameters), REPORTS)
        return "report"
    preview = REPORTS / "preview" / study
    for found in build(parameters, [study], preview, only=True):
        show(found)
    print(f"\nThe page: {preview / 'index.html'}")
    return "report"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report",
        description="Gather what every cell measured: one long table, comparison tables, figures and an offline page.",
        epilog="Reads what all studies with a cell in params.yaml have left, and writes reports/results.parquet, "
        "reports/tables, reports/figures and reports/index.html. Run from the root of the project; "
        "DVC runs this as `dvc repro`.",
    )
    parser.add_argument(
        "--study",
        metavar="NAME",
        help="show this study's tables here, write its page under reports/preview/NAME and leave the report alone",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
