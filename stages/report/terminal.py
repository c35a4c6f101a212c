"""Comparison tables in a terminal."""

from dataclasses import replace

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from stages.report.page import Study
from stages.report.tables import Section, Table


def show(study: Study) -> None:
    """Print the tables of a study; one that is too wide with its columns below each other."""
    console = Console()
    console.print(Text(study.title, style="bold"), Text(study.question), sep="\n")
    for table in study.tables:
        shown = _table(table)
        if console.measure(shown, options=console.options.update(width=10_000)).maximum > console.width:
            shown = _table(_by_column(table))
        # Beside the table, not of it: a narrow one would break them into many short lines.
        console.print(Text(f"\n{table.title}", style="italic"), shown, sep="\n")
        if table.note:
            console.print(Text(table.note, style="dim"))


def _table(table: Table) -> RichTable:
    shown = RichTable(show_edge=False, pad_edge=False)
    for place, heading in enumerate(table.headings):
        shown.add_column(Text(heading), justify="left" if place < table.labels else "right")
    for section in table.sections:
        if section.title:
            shown.add_section()
            shown.add_row(Text(section.title, style="bold"))
        for row in section.rows:
            shown.add_row(*map(Text, row))
    return shown


def _by_column(table: Table) -> Table:
    """Return a table of one untitled section with a section for each column; any other as it is."""
    if len(table.sections) != 1 or table.sections[0].title:
        return table
    rows, labels = table.sections[0].rows, table.labels
    sections = [
        Section(heading, [[*row[:labels], row[place]] for row in rows])
        for place, heading in enumerate(table.headings)
        if place >= labels
    ]
    return replace(table, headings=[*table.headings[:labels], ""], sections=sections)
