"""Comparison tables: what each step of a study measured, cell beside cell, for programs and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from stages.report import formats
from stages.results.metrics import METRICS
from stages.results.summaries import headline
from stages.results.verbs import VERBS

# Steps of a study, each with the verbs whose metrics its table compares.
STEPS = {verb.step: tuple(each.name for each in VERBS.values() if each.step == verb.step) for verb in VERBS.values()}
TITLES = {
    "joint": "Joint: utility, guarantee and what was measured further, of the same models",
    "partition": "Partition: who holds what",
    "train": "Train: what the models can do, and what their training guarantees",
    "shadow": "Shadow: the models that attacks compare with, on the examples that each did not see",
    "attack": "Attack: what an attacker finds",
    "audit": "Audit: what canaries say of the epsilon that is stated",
    "extract": "Extract: which secrets of the training text an attacker gets from the models",
    "invert": "Invert: what of private texts a server gets from the gradients that clients send",
    "score": "Score: how the models treat groups",
}
# What an epsilon holds under, by the mechanism that gives it.
GUARANTEES = {
    "dpsgd": "adding or removing one example, Poisson sampling of examples",
    "gaussian": "replacing one text of a batch by nothing, no sampling",
    "edpsgd": "replacing one example, Poisson sampling of groups that were dealt without looking at the data",
    "dp_fedavg": "adding or removing one client with all its examples, Poisson sampling of clients",
    "dp_ftrl": "replacing one client with all its examples by one that sends nothing, clients taking their turns",
}
# What it is of, by the step that states it.
RELEASED = {"train": "the release of one model", "invert": "one update of one client"}
ATTACKS = (
    "Attacks are membership inference, by a threshold on the loss unless another is named. That one is weak; LiRA and "
    "RMIA compare with shadow models, and are stronger where those were trained as the attacked model was. What an "
    "attack finds leaks; what none finds may leak all the same."
)
EXTRACTION = (
    "A secret is extracted by an attacker who has the model and the pattern around it. The oracle tries every code: "
    "what it misses is not lowest in loss, whatever the search. For whole secrets each seed is one trial, and the "
    "interval is Wilson's. Read both against the control, whose models never saw the secret."
)
INVERSION = (
    "A server sees the mean gradient of a batch of texts, and knows their lengths, labels and tags. Read off without "
    "any search are the bag of tokens, from the gradient of the token embeddings, and the order of a lone text, from "
    "that of the places; a batch takes a search. A guess draws tokens from the bag at random. Read all against the "
    "control, whose gradients are those of other texts."
)
# Columns of the joint table, in order: utility and guarantee, leakage, group gaps and sensitivity.
JOINT_METRICS = {
    "train": (
        *("accuracy", "macro_f1", "slot_f1", "exact_match", "answer_f1", "rouge1_f", "rouge2_f", "rougel_f"),
        *("perplexity", "epsilon", "replace_one_epsilon", "claimed_epsilon"),
    ),
    "attack": (
        *("auc", "true_positive_rate_at_1_percent", "lira_auc", "lira_true_positive_rate_at_1_percent"),
        *("rmia_auc", "rmia_true_positive_rate_at_1_percent", "rmia_true_positive_rate_at_0_1_percent"),
        "rmia_epsilon_estimate",
    ),
    "audit": ("epsilon_lower_bound",),
    "extract": ("canary_accuracy", "oracle_accuracy", "canary_token_accuracy", "canary_exposure"),
    "invert": ("bag_recall", "token_accuracy", "rouge1", "rouge2", "rougel"),
    "score": ("true_positive_rate_gap", "false_positive_rate_gap", "counterfactual_flip_rate"),
}
# What is said of each step's numbers.
NOTES = {"attack": ATTACKS, "extract": EXTRACTION, "invert": INVERSION}
# Steps that measure trained models further.
FURTHER = tuple(step for step in JOINT_METRICS if step != "train")
ESTIMATE = ["mean", "ci_low", "ci_high", "seeds", "n", "sampling_half_width"]
# Rows that fit on a page.
LONGEST = 40
LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "±": r"$\pm$", formats.NOTHING: "--"}
)


@dataclass(frozen=True)
class Section:
    """Rows that compare one metric; the joint table, which compares cells, has one untitled section."""

    title: str
    rows: list[list[str]]


@dataclass(frozen=True)
class Table:
    """One comparison: `numbers` for a CSV file, and the same as text under `headings`.

    The first `labels` columns of the text say what a row is; the others are numbers.
    """

    name: str
    title: str
    numbers: pd.DataFrame
    headings: list[str]
    labels: int
    sections: list[Section]
    note: str = ""


def guarantees(results: pd.DataFrame) -> dict[str, str]:
    """Return by step in words what the epsilons of a study hold under, of the steps that state any.

    Args:
        results: The study's rows of the long table.
    """
    found = {}
    for step, released in RELEASED.items():
        rows = results[results["verb"].isin(STEPS[step])]
        # A control states a delta, and no epsilon.
        stating = rows.loc[rows["metric"] == "epsilon", "cell"]
        deltas = rows[(rows["metric"] == "delta") & rows["cell"].isin(stating)]
        epsilons = rows.pivot_table("value", "cell", "metric")
        said = []
        for cell, row in deltas.groupby("cell", sort=False).first().iterrows():
            mechanism, own = row.mechanism, epsilons.loc[str(cell)]
            if mechanism == "edpsgd" and own["epsilon"] != own["replace_one_epsilon"]:
                # Without groups, as where noise decays alone, it is stated as DP-SGD is.
                mechanism = "dpsgd"
            said.append(f"{cell}: delta {row.value:g}, {GUARANTEES.get(mechanism, mechanism)}")
        if said:
            found[step] = (
                f"Epsilon of {'; '.join(said)}. By privacy loss distributions (dp-accounting), for {released}; "
                "the noise is seeded, so that anybody can repeat it, and the guarantee asks for a secret seed."
            )
    return found


def tables(summary: pd.DataFrame, guaranteed: Mapping[str, str] = MappingProxyType({})) -> list[Table]:
    """Return the tables of one study: the joint one if its trained models are measured further, then one a step.

    Args:
        summary: The study's rows of `summaries.summarise`.
        guaranteed: What its epsilons hold under, see `guarantees`.
    """
    steps = {name: summary[summary["verb"].isin(verbs)] for name, verbs in STEPS.items()}
    further = sum(len(steps[name]) for name in FURTHER)
    joint = [_joint(steps, guaranteed)] if len(steps["train"]) and further else []
    notes = {name: " ".join(said[name] for said in (NOTES, guaranteed) if name in said) for name in steps}
    return joint + [_step(name, rows, notes[name]) for name, rows in steps.items() if len(rows)]


def markdown(table: Table) -> str:
    """Return the table as Markdown, with its note below; a section's title is the first column of its rows."""
    titled = any(section.title for section in table.sections)
    headings = ["metric"] * titled + table.headings
    rule = ["---" if place < table.labels + titled else "---:" for place in range(len(headings))]
    rows = [[section.title] * titled + row for section in table.sections for row in section.rows]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in [headings, rule, *rows]]
    return "\n".join(lines + ["", table.note] * bool(table.note)) + "\n"


def latex(table: Table) -> str:
    """Return the table for LaTeX with booktabs (and longtable if it is long), from the same rows; its note above."""
    long = sum(len(section.rows) for section in table.sections) > LONGEST
    environment = "longtable" if long else "tabular"
    columns = "l" * table.labels + "r" * (len(table.headings) - table.labels)
    packages = "booktabs and longtable" if long else "booktabs"
    lines = [f"% {table.title}. Needs {packages}.", *(f"% {part}" for part in table.note.splitlines())]
    lines += [f"\\begin{{{environment}}}{{{columns}}}", r"\toprule", _latex_row(table.headings), r"\midrule"]
    lines += [r"\endhead"] * long
    for place, section in enumerate(table.sections):
        lines += [r"\midrule"] * bool(place)
        if section.title:
            lines.append(rf"\multicolumn{{{len(table.headings)}}}{{l}}{{\emph{{{_escaped(section.title)}}}}} \\")
        lines += map(_latex_row, section.rows)
    return "\n".join([*lines, r"\bottomrule", f"\\end{{{environment}}}"]) + "\n"


def _latex_row(cells: list[str]) -> str:
    row = " & ".join(map(_escaped, cells))
    # A bracket at its beginning would be an argument of the line break before it.
    return ("{}" if row.startswith("[") else "") + row + r" \\"


def _escaped(text: str) -> str:
    return text.translate(LATEX)


def _step(name: str, rows: pd.DataFrame, note: str) -> Table:
    order = {metric: place for place, metric in enumerate(METRICS)}
    keys = rows.assign(metric=rows["metric"].map(order), group=rows["group"].fillna(""))
    # Stable: within a metric and a group, cells keep the order of the grid.
    rows = rows.loc[keys.sort_values(["metric", "split", "group"], kind="stable").index]
    optional = [column for column in ("verb", "role", "group") if rows[column].nunique(dropna=False) > 1]
    sections: dict[str, list[list[str]]] = {}
    row: Any
    for row in rows.itertuples():
        names = [row.cell, *(formats.text(getattr(row, column)) for column in optional)]
        precision = [str(row.seeds), formats.number(row.sampling_half_width, row.unit), formats.number(row.n, "count")]
        title = f"{_title(row.metric)}, {row.split}"
        sections.setdefault(title, []).append([*names, formats.estimate(row), *precision])
    return Table(
        name=name,
        title=TITLES[name],
        numbers=_numbers(rows),
        headings=["cell", *optional, formats.seeds_heading(rows["seeds"]), "seeds", "sampling ±", "n"],
        labels=1 + len(optional),
        sections=[Section(title, lines) for title, lines in sections.items()],
        note=note,
    )


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    better = rows["best"].map({"max": "up", "min": "down"}).fillna("target " + rows["best"])
    return rows.assign(better=better)[["cell", "verb", "role", "metric", "split", "group", "unit", "better", *ESTIMATE]]


def _joint(steps: dict[str, pd.DataFrame], guaranteed: Mapping[str, str]) -> Table:
    measured = {cell for name in FURTHER for cell in steps[name]["cell"]}
    # An inversion has a name and a row of its own, below the models.
    if len(steps["invert"]):
        measured |= set(steps["train"]["cell"])
    cells = pd.concat([steps["train"], steps["invert"]]).drop_duplicates("cell").set_index("cell")[["role"]]
    cells = cells[cells.index.isin(measured)]
    numbers, shown = [cells], [list(cells.index), [formats.text(role) for role in cells["role"]]]
    headings = ["cell", "role"]
    for step, metric in ((step, metric) for step, metrics in JOINT_METRICS.items() for metric in metrics):
        # An update has an epsilon as a model has.
        stating = ("train", "invert") if step == "train" else (step,)
        values = pd.concat([headline(steps[each], metric) for each in stating]).set_index("cell")
        # Epsilon stays when no cell has one: that is a result.
        if len(values) or metric == "epsilon":
            column = values.reindex(cells.index)
            missing = "no guarantee" if metric == "epsilon" else formats.NOTHING
            numbers.append(column[ESTIMATE].add_prefix(f"{metric}_"))
            headings.append(_title(metric))
            shown.append([formats.estimate(row, missing) for row in column.itertuples()])
    every = pd.concat([steps[step]["seeds"] for step in JOINT_METRICS])
    said = [note for step, note in NOTES.items() if len(steps[step])]
    return Table(
        name="joint",
        title=TITLES["joint"],
        numbers=pd.concat(numbers, axis=1).reset_index(),
        headings=headings,
        labels=2,
        sections=[Section("", [list(row) for row in zip(*shown, strict=True)])],
        note=f"Each number: {formats.seeds_heading(every)}. "
        "Its n and its sampling half-width stand in the tables of the steps, and in the CSV file. "
        f"{' '.join([*said, *guaranteed.values()])}".rstrip(),
    )


def _title(metric: str) -> str:
    return f"{METRICS[metric].title} {formats.arrow(METRICS[metric].best)}".rstrip()
