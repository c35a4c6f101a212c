"""How figures are drawn: as SVG, by Vega-Lite, with one look.

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
from numpy.typing import NDArray

WIDTH = 460
# Pixels that a label of two digits takes, across and up.
LABEL = np.array([16.0, 13.0])
FIT_WIDTH = alt.AutoSizeParams(type="fit-x", contains="padding")
# Okabe and Ito's colours, which also differ in lightness; dashes from solid to dotted.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]
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


def marks(kinds: list[Any], cells: int) -> list[Any]:
    """Return the shape or dash of each cell, beside COLOURS in turn: of the first 49 cells no two look alike."""
    return [kinds[(cell + cell // len(COLOURS)) % len(kinds)] for cell in range(max(cells, len(COLOURS)))]


def beside(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the label of each point goes: near it, and neither on another label nor on a point if there is room.

    Args:
        points: (n, 2) in pixels.

    Returns:
        (n, 2) the middle of each label, in pixels.
    """
    # Nearest first, and askew before straight: an interval of the point goes straight.
    sides = np.array([(0.75, 1), (0.75, -1), (-0.75, 1), (-0.75, -1), (1, 0), (-1, 0), (0, 1), (0, -1)])
    steps = np.concatenate([distance * sides for distance in (1.0, 1.5, 2.0, 2.5, 3.0)])
    taken = list(points / LABEL)
    for place in range(len(points)):
        tried = taken[place] + steps
        # A hair less than a label, or rounding would have neighbours touch.
        covered = (np.abs(tried[:, None] - np.array(taken)) < 1 - 1e-9).all(axis=2).sum(axis=1)
        taken.append(tried[covered.argmin()])
    found: NDArray[np.float64] = np.array(taken[len(points) :]) * LABEL
    return found


@dataclass(frozen=True)
class Figure:
    """One figure: file name without suffix, step of the study, SVG text, caption, and its content in words."""

    name: str
    step: str
    svg: str
    caption: str
    alt: str


def lines(table: pd.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Return a line of each seed of each cell, thin, and their mean over seeds, thick.

    Args:
        table: Columns cell, seed (text; `mean` for the mean over seeds), and those of `x` and `y`.
        x: Across.
        y: Up.
    """
    cells = list(table["cell"].unique())
    legend = alt.Legend(orient="bottom", columns=2, title=None, symbolSize=900, symbolStrokeWidth=2, symbolOpacity=1)
    colour = alt.Color("cell:N", scale=alt.Scale(domain=cells, range=COLOURS), legend=legend)
    dash = alt.StrokeDash("cell:N", scale=alt.Scale(domain=cells, range=marks(DASHES, len(cells))), legend=legend)
    base = alt.Chart(table).encode(x=x, y=y, color=colour, strokeDash=dash, detail="seed:N")
    seeds = base.transform_filter("datum.seed != 'mean'").mark_line(strokeWidth=0.8, opacity=0.45, clip=True)
    mean = base.transform_filter("datum.seed == 'mean'").mark_line(strokeWidth=2.2, clip=True)
    return [seeds, mean]


def overlay(charts: list[alt.Chart], height: int) -> Any:
    """Lay charts of the same axes over each other, at the width of a figure."""
    return alt.layer(*charts).properties(width=WIDTH, height=height, autosize=FIT_WIDTH)


def draw(name: str, step: str, chart: Any, caption: str, description: str) -> Figure:
    """Return a chart as a figure."""
    with alt.data_transformers.enable("default", max_rows=None):
        svg = vl_convert.vegalite_to_svg(chart.configure(**CONFIG).to_dict())
    return Figure(name, step, svg, caption, description)


def tidy(figure: Figure, study: str) -> Figure:
    """Name a figure for screen readers, shorten its coordinates and make its ids its own.

    The renderer numbers ids on and on within a process, and the figures of a page are one document.
    """
    svg, description = figure.svg, escape(figure.alt)
    ids = {old: f"{study}-{figure.name}-{place}" for place, old in enumerate(re.findall(r'id="([^"]+)"', svg))}
    svg = re.sub(r'(?<=id=")[^"]+|(?<=url\(#)[^)]+', lambda found: ids[found.group()], svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda x: f"{float(x.group()):.2f}", tag.group()), svg)
    svg = re.sub(r"^<svg ([^>]*>)", rf'<svg role="img" aria-label="{description}" \1<title>{description}</title>', svg)
    return replace(figure, svg=svg)
