"""The report as one story: read, summarise, lay out, write."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.common import artifacts
from stages.report import settings
from stages.report.agreement import agreement_figures, agreement_tables
from stages.report.figures import figures
from stages.report.page import Run, Study, render
from stages.report.tables import guarantees, latex, markdown, tables
from stages.report.versions import packages
from stages.results.agreement import agreement
from stages.results.claims import CLAIMS, ClaimsFile, read_claims
from stages.results.long_table import long_table
from stages.results.sources import sources as sources_of
from stages.results.summaries import summarise
from stages.results.verdicts import as_table, verdicts

RUN_KEYS = ["verb", "cell", "command", "inputs_sha256"]


def build(parameters: dict[str, Any], names: list[str], folder: Path, only: bool = False) -> list[Study]:
    """Report on studies: results.parquet, verdicts.csv, tables/, figures/ and index.html in `folder`.

    Args:
        parameters: What params.yaml holds.
        names: The studies, in reading order.
        folder: Its tables and figures are replaced as a whole, so that none is left of an earlier report.
        only: Show these studies only, not also those that have claims and no results yet.

    Raises:
        InputError: A setting is wrong, or a file that a cell should have written is absent or malformed.
    """
    sources = {name: sources_of(parameters, name) for name in names}
    profile = settings.profile(parameters)
    results = long_table(profile, [source for cells in sources.values() for source in cells])
    summary = summarise(results)
    claims = _claims(names if only else None)
    judged = {name: verdicts(name, file, results, profile) for name, file in claims.items()}
    targets = settings.targets(parameters)
    agreeing = {
        name: agreement(results[results["study"] == name], asked)
        for name, asked in settings.agreement(parameters).items()
        if name in sources
    }
    studies = [
        Study(
            name,
            tables(summary[summary["study"] == name], guarantees(results[results["study"] == name]))
            + (agreement_tables(agreeing[name]) if name in agreeing else []),
            figures(
                name, summary[summary["study"] == name], results[results["study"] == name], cells, targets.get(name)
            )
            + (agreement_figures(name, agreeing[name]) if name in agreeing else []),
            _runs(results[results["study"] == name]),
            claims.get(name),
            judged.get(name, []),
        )
        for name, cells in sources.items()
    ]
    shown = [
        *studies,
        *(Study(name, claims=claims[name], verdicts=judged[name]) for name in claims if name not in names),
    ]
    artifacts.write_table(folder / "results.parquet", results)
    artifacts.write_table(folder / "verdicts.csv", as_table(verdict for found in judged.values() for verdict in found))
    _write_tables(studies, folder / "tables")
    _write_figures(studies, folder / "figures")
    with artifacts.atomic_file(folder / "index.html") as page:
        page.write_text(render(profile, shown, packages()), encoding="utf-8")
    return studies


def _claims(names: list[str] | None) -> dict[str, ClaimsFile]:
    # Also of studies that are not there yet: their claims are not run, and said to be.
    files = {path.stem: path for path in sorted(CLAIMS.glob("*.yaml"))}
    return {name: read_claims(path) for name, path in files.items() if names is None or name in names}


def _runs(results: pd.DataFrame) -> list[Run]:
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for verb, cell, command, digest, seed in results[[*RUN_KEYS, "seed"]].itertuples(index=False):
        found.setdefault((verb, cell, command, digest), []).append(seed)
    return [Run(*key, ", ".join(map(str, sorted(set(seeds))))) for key, seeds in found.items()]


def _write_tables(studies: list[Study], folder: Path) -> None:
    with artifacts.atomic_folder(folder) as temporary:
        for study in studies:
            (temporary / study.name).mkdir()
            for table in study.tables:
                file = temporary / study.name / table.name
                table.numbers.to_csv(file.with_suffix(".csv"), index=False, lineterminator="\n")
                file.with_suffix(".md").write_text(markdown(table), encoding="utf-8")
                file.with_suffix(".tex").write_text(latex(table), encoding="utf-8")


def _write_figures(studies: list[Study], folder: Path) -> None:
    with artifacts.atomic_folder(folder) as temporary:
        for study in studies:
            (temporary / study.name).mkdir()
            for figure in study.figures:
                (temporary / study.name / f"{figure.name}.svg").write_text(figure.svg + "\n", encoding="utf-8")
