"""How numbers look to a person: decimals by unit, intervals in brackets, arrows for better."""

from typing import Any

import pandas as pd

DECIMALS = {"fraction": 3, "nats": 3, "bits": 3, "epsilon": 2, "ratio": 3, "difference": 3}
COUNTS = ("count", "examples")
NOTHING = "\N{EN DASH}"


def number(value: Any, unit: str) -> str:
    """Return a value with the decimals of its unit, or a dash for a missing one."""
    if pd.isna(value):
        return NOTHING
    if unit in COUNTS:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    if unit not in DECIMALS:
        return f"{value:.4g}"
    shown = f"{value:.{DECIMALS[unit]}f}"
    # A chance of one in ten thousand is not none.
    return f"{value:.1g}" if value and not float(shown) else shown


def estimate(row: Any, missing: str = NOTHING) -> str:
    """Return `0.812 [0.801, 0.823]` for a row of a summary; the mean alone if there is no interval."""
    if pd.isna(row.mean):
        return missing
    mean = number(row.mean, row.unit)
    if pd.isna(row.ci_low):
        return mean
    if row.ci_low == row.ci_high:
        return f"{mean} (all seeds)"
    return f"{mean} [{number(row.ci_low, row.unit)}, {number(row.ci_high, row.unit)}]"


def text(value: Any) -> str:
    """Return a name, or nothing for a missing one."""
    return "" if pd.isna(value) else str(value)


def arrow(best: str | float | None) -> str:
    """Return the direction of better: up, down, a target, or nothing for a metric that only describes."""
    if best is None:
        return ""
    if isinstance(best, str):
        return {"max": "↑", "min": "↓"}[best]
    return f"→ {best:g}"


def span(counts: "pd.Series[int]") -> str:
    """Return `3`, or `3 to 5` where counts differ."""
    fewest, most = number(counts.min(), "count"), number(counts.max(), "count")
    return most if fewest == most else f"{fewest} to {most}"


def seeds_heading(seeds: "pd.Series[int]") -> str:
    """Return the heading of a column of estimates, which says over how many seeds they are taken."""
    if seeds.max() == 1:
        return "value (one seed: no interval)"
    return f"mean [95% interval over {span(seeds)} seeds]"
