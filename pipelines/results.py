"""Show results in the terminal, as the report has them."""

import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.compare import ALPHA, Change, Comparison, Side, Word
from stages.common.errors import InputError
from stages.common.settings import read_parameters
from stages.report.formats import NOTHING

VERDICTS = Path("reports/verdicts.csv")
COLUMNS = ["metric", "before", "after", "difference", "n", "verdict", "why"]
# In the order in which they are shown; the last is counted only.
WORDS = get_args(Word)
# Shown in a table. A comment on a pull request is cut at 65,536 characters.
ROWS = 100
# Causes shown of one metric; --format json has all.
CAUSES = 3


def show_claims(study: str | None) -> None:
    """Print the verdicts of the last report, of one study or of all.

    Raises:
        InputError: There is no report yet, or the study has no claims.
    """
    if not VERDICTS.exists():
        raise InputError(str(VERDICTS), "no such file", "`dvc repro report` writes it")
    rows = pd.read_csv(VERDICTS)
    known = list(dict.fromkeys(rows["study"]))
    if study is not None and study not in known:
        raise InputError(str(VERDICTS), f"has no claims of `{study}`", f"it has: {', '.join(known)}")
    console = Console()
    for name, group in rows.groupby("study", sort=False):
        if study in (None, name):
            console.print(_verdicts(str(name), group))


def _verdicts(study: str, rows: pd.DataFrame) -> Table:
    table = Table(title=Text(f"\n{study}"), title_justify="left", show_edge=False, pad_edge=False)
    for column in ("statement", "published", "ours", "verdict", "why"):
        table.add_column(column)
    for row in rows.to_dict("records"):
        ours = ""
        if not pd.isna(row["n"]):
            ours = f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}], n={row['n']:g}"
        cells = (row["statement"], row["published"], ours, row["verdict"], row["reason"])
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def show_study(study: str) -> None:
    """Print a study's tables, made anew from reports/metrics."""
    from stages.report.page import Study
    from stages.report.settings import profile
    from stages.report.tables import guarantees, tables
    from stages.report.terminal import show
    from stages.results.long_table import long_table
    from stages.results.sources import sources
    from stages.results.summaries import summarise

    parameters = read_parameters()
    results = long_table(profile(parameters), sources(parameters, study))
    show(Study(study, tables(summarise(results), guarantees(results))))


def show_comparison(found: Comparison, form: Literal["table", "markdown", "json", "csv"]) -> None:
    """Print what differs, worse first: at most ROWS of it in a table, all metrics as json and csv."""
    if form == "json":
        # Not json.dumps, which is slow on thousands of metrics when it indents.
        print(TypeAdapter(Comparison).dump_json(found, indent=2).decode())
        return
    if form == "csv":
        pd.DataFrame(map(_flat, found.changes)).to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    counts = Counter(change.verdict for change in found.changes)
    title = f"{found.before} -> {found.after}: " + ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    moved = [change for word in WORDS[:-1] for change in found.changes if change.verdict == word]
    notes = [f"{len(moved) - ROWS:,} more; --format csv has them all"] * (len(moved) > ROWS)
    notes += [f"{each} (locked packages)" for each in found.environment]
    rows = [_cells(change) for change in moved[:ROWS]]
    if form == "markdown":
        print(_markdown(title, rows, notes))
        return
    console = Console()
    table = Table(title=Text(f"\n{title}"), title_justify="left", show_edge=False, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table if rows else Text(title))
    for note in notes:
        console.print(Text(note))


def _flat(change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in vars(change).items():
        if name in ("before", "after"):
            row |= {f"{name}_{field.name}": value and getattr(value, field.name) for field in fields(Side)}
        elif name != "why":
            row[name] = value
    return row


def _cells(change: Change) -> list[str]:
    arrow = {"max": " ↑", "min": " ↓", None: ""}.get(change.best, f" → {change.best}")
    difference = "" if change.difference is None else f"{change.difference:+.4g}"
    if change.low is not None and change.high is not None:
        difference += f" [{change.low:+.3g}, {change.high:+.3g}]"
    tolerated = "tolerance; " if change.verdict == "within noise" and change.p is not None and change.p < ALPHA else ""
    verdict = change.verdict if change.p is None else f"{change.verdict} ({tolerated}p = {change.p:.2g})"
    more = f"; {len(change.why) - CAUSES} more" if len(change.why) > CAUSES else ""
    why = "; ".join(change.why[:CAUSES]) + more
    numbers = [_side(change.before), _side(change.after), difference, "" if change.n is None else str(change.n)]
    return [change.name + arrow, *numbers, verdict, why]


def _side(side: Side | None) -> str:
    if side is None:
        return NOTHING
    mean = f"{side.mean:.4g}"
    if side.low is None:
        return mean
    return f"{mean} (all seeds)" if side.low == side.high else f"{mean} [{side.low:.4g}, {side.high:.4g}]"


def _markdown(title: str, rows: list[list[str]], notes: list[str]) -> str:
    lines = [f"**{title}**", ""]
    if rows:
        table = [COLUMNS, ["---"] * len(COLUMNS), *rows]
        lines += [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in table] + [""]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]).rstrip()
