"""The token map: some texts, each token shaded by what it adds to P, as one HTML file that needs nothing else.

It holds texts, so it lies beside the scores, which are not pushed, and in no report.
"""

from html import escape
from typing import Any

import pandas as pd

SHOWN = 20
STYLE = """
body { font: 15px/1.7 Arial, Helvetica, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222 }
section { border-top: 1px solid #ccc; padding: .6em 0 }
table { border-spacing: 0 .15em } th { font-weight: normal; text-align: left; vertical-align: top; padding-right: 1em }
td.value { text-align: right; padding-right: 1em; font-variant-numeric: tabular-nums; vertical-align: top }
span { border-radius: .2em; padding: 0 .1em; border-bottom: 1px solid #eee }
.dark { color: #fff }
"""


def page(table: pd.DataFrame, title: str) -> str:
    """Return the map of the first texts of a cell, a row of shaded tokens for each weighting.

    Args:
        table: What `sensitivity.measure` returned of one seed.
        title: Of the page.
    """
    weightings = [name.removeprefix("tokens/") for name in map(str, table) if name.startswith("tokens/")]
    shown = table.head(SHOWN)
    sections = "\n".join(_text(row, weightings) for row in shown.to_dict("records"))
    said = (
        f"{len(shown)} of {len(table)} texts. P stands at the left of a row, and a token is the darker, the more of it "
        "it has: its weight times the norm of the gradient of what is predicted. Shades are of each row by itself."
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n<p>{said}</p>\n{sections}\n</body></html>\n"
    )


def _text(row: dict[Any, Any], weightings: list[str]) -> str:
    said = f"{row['example_id']}: {row['label']}, predicted {row['predicted']} ({row['confidence']:.2f})"
    if "depends" in row:
        said += f"; written {row['gender']}, and the other gender {'changes' if row['depends'] else 'keeps'} that"
    lines = "\n".join(
        f'<tr><th>{escape(name)}</th><td class="value">{row[f"prediction_sensitivity/{name}"]:.4f}</td>'
        f"<td>{_tokens(row['tokens'], row[f'tokens/{name}'])}</td></tr>"
        for name in weightings
    )
    return f"<section><p>{escape(said)}</p><table>\n{lines}\n</table></section>"


def _tokens(names: list[str], values: Any) -> str:
    most = max(values, default=0.0) or 1.0
    return " ".join(_token(name, value, value / most) for name, value in zip(names, values, strict=True))


def _token(name: str, value: float, share: float) -> str:
    # White to blue; on the darker half the ink is white.
    ink = ' class="dark"' if share > 0.5 else ""
    return f'<span style="background: rgb(0 114 178 / {share:.0%})"{ink} title="{value:.2g}">{escape(name)}</span>'
