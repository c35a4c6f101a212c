"""Figures of a study as SVG: who holds what, ROC, federated rounds, utility by cell.

Lines differ in dash as well as in colour, and points in shape, so that a print in grey can be read.
"""

import re
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from stages.report import curves
from stages.results.metrics import METRICS
from stages.results.sources import Source
from stages.results.summaries import headline
from stages.results.verbs import FITTING

UTILITY = ("accuracy", "macro_f1", "slot_f1")
WIDTH = 460
LABELS_SHOWN = 30
FIT_WIDTH = alt.AutoSizeParams(type="fit-x", contains="padding")
# Okabe and Ito's colours, which also differ in lightness; dashes from solid to dotted.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]
DASHES = [[1, 0], [7, 3], [2, 2], [10, 3, 2, 3], [4, 4], [1, 4], [12, 4]]
# Arial has the widths of Liberation Sans, which vl-convert brings along: the layout is the same everywhere.
CONFIG: dict[str, Any] = {
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "labelColor": "#333",
        "titleColor": "#333",
        "gridColor": "#e8e8e8",
        "domainColor": "#999",
        "tickColor": "#999",
        "labelLimit": 170,
    },
    "legend": {"offset": 10, "labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": "normal", "labelLimit": 220},
}


@dataclass(frozen=True)
class Figure:
    """One figure: file name without suffix, step of the study, SVG text, caption, and its content in words."""

    name: str
    step: str
    svg: str
    caption: str
    alt: str


def figures(study: str, summary: pd.DataFrame, sources: list[Source]) -> list[Figure]:
    """Return the figures that a study has data for.

    Args:
        study: Its name, which makes the ids of its figures unlike those of other studies.
        summary: The study's rows of `summaries.summarise`.
        sources: The study's cells.
    """
    sizes = summary[(summary["verb"] == "partition") & (summary["metric"] == "clients")].set_index("cell")["mean"]
    dealt = {source.cell: curves.read(source) for source in sources if source.verb == "partition"}
    drawn = [_partition(name, table, sizes.get(name)) for name, table in dealt.items()]
    trained = summary[summary["verb"].isin(FITTING)]
    drawn += [_utility(rows, metric) for metric in UTILITY if len(rows := headline(trained, metric))]
    histories = {source.cell: curves.read(source) for source in sources if source.verb == "federate"}
    drawn += [_rounds(histories, metric) for metric in _followed(histories)[:1]]
    attacks = {source.cell: curves.read(source) for source in sources if source.verb == "attack"}
    drawn += [_roc(attacks)] if attacks else []
    return [_tidy(figure, study) for figure in drawn]


def _partition(name: str, table: pd.DataFrame, clients: float | None) -> Figure:
    first = table[table["seed"] == table["seed"].min()]
    counts = _largest(first.pivot_table(index="client", columns="label", values="count", aggfunc="sum", fill_value=0))
    shown = counts.rename_axis("client").reset_index().melt("client", var_name="label", value_name="count")
    shown["client"] = shown["client"].astype(int)
    shown["share"] = shown["count"] / shown.groupby("client")["count"].transform("sum")
    axis = alt.Axis(values=list(range(0, len(counts), max(1, round(len(counts) / 10)))), labelAngle=0, grid=False)
    base = alt.Chart(shown).properties(width=WIDTH - 140)
    sizes = base.mark_bar(color="#555").encode(
        x=alt.X("client:O", axis=None), y=alt.Y("sum(count):Q", title="examples", axis=alt.Axis(tickCount=3))
    )
    legend = alt.Legend(
        orient="bottom",
        format="%",
        values=[0, 0.05, 0.25, 1],
        gradientLength=180,
        title="share of the client's examples",
    )
    # The square root keeps the small shares of many labels apart from none.
    shade = alt.Scale(type="sqrt", domain=[0, 1], range=["#ffffff", "#1f2f44"], interpolate="rgb")
    heat = base.mark_rect().encode(
        x=alt.X("client:O", title="client, by rank of size", axis=axis),
        y=alt.Y("label:N", title=None, sort=list(counts.columns)),
        color=alt.Color("share:Q", scale=shade, legend=legend),
    )
    heat = heat.properties(height=alt.Step(15), view=alt.ViewBackground(stroke="#bbb"))
    chart = alt.vconcat(sizes.properties(height=70), heat, spacing=8)
    held = counts.sum(axis=1)
    part = f"the {len(counts)} largest of {clients:,.0f}" if clients and clients > len(counts) else f"all {len(counts)}"
    return _figure(
        f"partition-{name}",
        "partition",
        chart,
        f"Who holds what under {name}, first seed, {part} clients: examples of each, and its mix of labels.",
        f"Under {name}, {part} clients hold {held.sum():,.0f} examples of {first['label'].nunique()} labels; "
        f"the largest of them holds {held.max():,.0f}, the smallest {held.min():,.0f}.",
    )


def _largest(counts: pd.DataFrame) -> pd.DataFrame:
    """Gather the rarest labels in one column if not all of them fit; the others keep their order."""
    if counts.shape[1] <= LABELS_SHOWN:
        return counts
    rarest = counts.sum().sort_values(ascending=False, kind="stable").index[LABELS_SHOWN - 1 :]
    kept = counts.drop(columns=rarest)
    return kept.assign(**{f"{len(rarest)} other labels": counts[rarest].sum(axis=1)})


def _utility(rows: pd.DataFrame, metric: str) -> Figure:
    table = rows[["cell", "mean", "ci_low", "ci_high"]].assign(role=rows["role"].fillna("none"))
    title = METRICS[metric].title
    base = alt.Chart(table).encode(y=alt.Y("cell:N", sort=list(table["cell"]), title=None))
    x = alt.X(
        "mean:Q", title=f"{title} ({rows['split'].iloc[0]})", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)
    )
    intervals = base.mark_rule(strokeWidth=2, color="#777").encode(x=alt.X("ci_low:Q"), x2="ci_high:Q")
    legend = alt.Legend(orient="bottom") if table["role"].nunique() > 1 else None
    shape = alt.Shape("role:N", sort=list(table["role"].unique()), legend=legend)
    points = base.mark_point(size=90, filled=True, color=COLOURS[0], opacity=1).encode(x=x, shape=shape)
    lines = [f"{row.cell} {row.mean:.3f}" for row in table.itertuples()]
    interval = "the line is the interval over seeds" if rows["seeds"].max() > 1 else "one seed, so no interval"
    return _figure(
        f"utility-{metric.replace('_', '-')}",
        "train",
        _layers([intervals, points], height=34 * len(table)),
        f"{title[:1].upper()}{title[1:]} of each cell: mean over seeds; {interval}.",
        f"{title} by cell: {', '.join(lines)}.",
    )


def _followed(histories: dict[str, pd.DataFrame]) -> list[str]:
    """Return the metrics that every federation followed round by round, utility first."""
    followed = [set(history["metric"]) for history in histories.values()]
    names = sorted(set.intersection(*followed)) if followed else []
    return sorted(names, key=lambda name: not name.endswith(UTILITY))


def _rounds(histories: dict[str, pd.DataFrame], metric: str) -> Figure:
    averaged = {cell: curves.rounds(history, metric) for cell, history in histories.items()}
    lines = pd.concat([table.assign(cell=cell) for cell, table in averaged.items()])
    title = re.sub("[_/]", " ", metric)
    x, y = alt.X("step:Q", title="round"), alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    last = [f"{cell} {table.loc[table['seed'] == 'mean', 'value'].iloc[-1]:.3f}" for cell, table in averaged.items()]
    return _figure(
        "rounds",
        "train",
        _layers(_lines(lines, x, y), height=260),
        f"Federated rounds: {title}. Thick: mean over seeds. Thin: each seed.",
        f"{title} after the last round: {', '.join(last)}.",
    )


def _roc(attacks: dict[str, pd.DataFrame]) -> Figure:
    rates = pd.concat([table["false_positive_rate"] for table in attacks.values()])
    floor = 10 ** np.floor(np.log10(rates[rates > 0].min()))
    grid = np.geomspace(floor, 1, curves.POINTS)
    lines = pd.concat([curves.roc(table, grid).assign(cell=cell) for cell, table in attacks.items()])
    lines = lines[lines["true_positive_rate"] > 0]
    scale = alt.Scale(type="log", domain=[floor, 1])
    axis = alt.Axis(format="~g", values=list(10.0 ** np.arange(np.log10(floor), 1)))
    x = alt.X("false_positive_rate:Q", title="false positive rate", scale=scale, axis=axis)
    y = alt.Y("true_positive_rate:Q", title="true positive rate", scale=scale, axis=axis)
    ends = pd.DataFrame({"false_positive_rate": [floor, 1], "true_positive_rate": [floor, 1]})
    chance = alt.Chart(ends).mark_line(color="#999", strokeWidth=1).encode(x=x, y=y)
    return _figure(
        "roc",
        "attack",
        _layers([chance, *_lines(lines, x, y)], height=WIDTH - 60),
        "Membership inference, ROC on log axes. Thick: mean over seeds. Thin: each seed. The straight line is chance.",
        f"ROC of the attack on {', '.join(attacks)}, beside the diagonal of chance.",
    )


def _lines(table: pd.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    cells = list(table["cell"].unique())
    legend = alt.Legend(orient="bottom", columns=2, title=None, symbolSize=900, symbolStrokeWidth=2, symbolOpacity=1)
    colour = alt.Color("cell:N", scale=alt.Scale(domain=cells, range=COLOURS), legend=legend)
    dash = alt.StrokeDash("cell:N", scale=alt.Scale(domain=cells, range=DASHES), legend=legend)
    base = alt.Chart(table).encode(x=x, y=y, color=colour, strokeDash=dash, detail="seed:N")
    seeds = base.transform_filter("datum.seed != 'mean'").mark_line(strokeWidth=0.8, opacity=0.45, clip=True)
    mean = base.transform_filter("datum.seed == 'mean'").mark_line(strokeWidth=2.2, clip=True)
    return [seeds, mean]


def _layers(layers: list[alt.Chart], height: int) -> Any:
    return alt.layer(*layers).properties(width=WIDTH, height=height, autosize=FIT_WIDTH)


def _figure(name: str, step: str, chart: Any, caption: str, description: str) -> Figure:
    with alt.data_transformers.enable("default", max_rows=None):
        svg = vl_convert.vegalite_to_svg(chart.configure(**CONFIG).to_dict())
    return Figure(name, step, svg, caption, description)


def _tidy(figure: Figure, study: str) -> Figure:
    """Name a figure for screen readers, shorten its coordinates and make its ids its own.

    The renderer numbers ids on and on within a process, and the figures of a page are one document.
    """
    svg, description = figure.svg, escape(figure.alt)
    ids = {old: f"{study}-{figure.name}-{place}" for place, old in enumerate(re.findall(r'id="([^"]+)"', svg))}
    svg = re.sub(r'(?<=id=")[^"]+|(?<=url\(#)[^)]+', lambda found: ids[found.group()], svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda x: f"{float(x.group()):.2f}", tag.group()), svg)
    svg = re.sub(r"^<svg ([^>]*>)", rf'<svg role="img" aria-label="{description}" \1<title>{description}</title>', svg)
    return replace(figure, svg=svg)
