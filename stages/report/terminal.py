"""Comparison tables in a terminal."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from stages.report.page import Study
from stages.report.tables import Table


def show(study: Study) -> None:
    """Print the tables of a study."""
    console = Console()
    console.print(Text(study.title, style="bold"), Text(study.question), sep="\n")
    for table in study.tables:
        console.print(_table(table))


def _table(table: Table) -> RichTable:
    shown = RichTable(
        title=Text(f"\n{table.title}"),
        caption=Text(table.note),
        title_justify="left",
        caption_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for place, heading in enumerate(table.headings):
        shown.add_column(Text(heading), justify="left" if place < table.labels else "right")
    for section in table.sections:
        if section.title:
            shown.add_section()
            shown.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            shown.add_row(*map(Text, row))
    return shown
