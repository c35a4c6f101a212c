"""What the page shows of metrics of bias: do they agree, do they follow the planted bias, and how noisy are they?"""

from typing import Any

import altair as alt
import pandas as pd

from stages.report import formats
from stages.report.drawing import COLOURS, Figure, draw, tidy
from stages.report.tables import Section, Table
from stages.results.agreement import LEAST_FOR_VERDICT, TRUE_CORRELATION, Agreement
from stages.results.correlations import ALL_ORDERS, PERMUTATIONS, REPLICATES, USUAL_TESTS, critical_correlation

# Pixels of a square of the matrix.
SQUARE = 54
ORIENTED = "Every score is oriented so that bigger is more biased, as the column `oriented` says."
INTERVALS = (
    f"Brackets: 95% percentile bootstrap of {REPLICATES} draws of models, of whole families where those are given. "
    f"p of fewer than {USUAL_TESTS} models by permutation (all orders up to {ALL_ORDERS} models, {PERMUTATIONS} random "
    "ones otherwise), else the usual one; it takes models as independent, also those of a family. "
)


def agreement_tables(found: Agreement) -> list[Table]:
    """Return the tables `agreement`, `planted_truth` and `noise_floor`.

    Where nothing was planted there is no second one; where no model is compared only the first, empty.
    """
    if not found.models:
        return [_pairs(found)]
    return [_pairs(found), *([_truth(found)] if len(found.truth) else []), _noise(found)]


def agreement_figures(study: str, found: Agreement) -> list[Figure]:
    """Return a matrix for each axis: rows intrinsic, columns extrinsic, colour and number Spearman's rho."""
    return [
        tidy(_matrix(str(axis), rows, found.models), study) for axis, rows in found.pairs.groupby("axis", sort=False)
    ]


def _pairs(found: Agreement) -> Table:
    rows = [
        [
            *(row.axis, row.intrinsic, row.extrinsic, f"{row.intrinsic_orientation}; {row.extrinsic_orientation}"),
            *(str(row.n), _interval(row, "spearman"), _p(row.spearman_p_holm)),
            *(_interval(row, "pearson"), _interval(row, "kendall")),
            *(_number(row.pearson_corrected), _number(row.partial), _number(row.power)),
            _range(row.without_a_family_low, row.without_a_family_high),
        ]
        for row in _rows(found.pairs)
    ]
    said = (
        f"{ORIENTED} {INTERVALS}p (Holm): of Spearman, over all pairs of an axis. Without noise: Pearson corrected for "
        "attenuation by the reliabilities of the noise floor, which may be above 1. Doses held fixed: partial "
        "correlation (Pearson), the doses of all axes regressed out. Power: to see a true correlation of "
        f"{TRUE_CORRELATION:g} at 5%, for one pair alone. "
    )
    if found.models > 2:
        said += f"Of {found.models} models an |r| below {critical_correlation(found.models):.3f} is not significant. "
    headings = ["axis", "intrinsic", "extrinsic", "oriented", "n", "Spearman", "p (Holm)", "Pearson", "Kendall"]
    headings += ["without noise", "doses held fixed", f"power at {TRUE_CORRELATION:g}", "Spearman without a family"]
    title = "Agreement: intrinsic against extrinsic metrics of bias, model by model"
    return Table("agreement", title, found.pairs, headings, 4, [Section("", rows)], _note(said, found))


def _truth(found: Agreement) -> Table:
    rows = [
        [
            *(row.axis, row.kind, row.metric, row.orientation, row.dose + (" (own)" if row.own else "")),
            *(str(row.n), _interval(row, "slope"), _interval(row, "spearman"), _p(row.spearman_p_holm)),
            formats.text(row.verdict) or formats.NOTHING,
        ]
        for row in _rows(found.truth)
    ]
    said = (
        f"{ORIENTED} {INTERVALS}p (Holm): of Spearman, over all metrics and doses of an axis. A metric rises or falls "
        f"where that p is below 5% of at least {LEAST_FOR_VERDICT} models; `not shown` is not `no effect`. "
    )
    headings = ["axis", "kind", "metric", "oriented", "dose", "n", "slope per dose", "Spearman", "p (Holm)", "verdict"]
    title = "Planted truth: each metric of bias against the dose of its own axis and of the others"
    return Table("planted_truth", title, found.truth, headings, 5, [Section("", rows)], _note(said, found))


def _noise(found: Agreement) -> Table:
    rows = [
        [
            *(row.axis, row.kind, row.metric, row.orientation, str(row.models), str(row.seeds)),
            *(_number(row.within, 4), _number(row.between, 4), _number(row.reliability)),
        ]
        for row in _rows(found.noise)
    ]
    said = (
        f"{ORIENTED} Within: standard deviation over the seeds of a model, pooled over models. Between: that of the "
        "models' means. Reliability: the share of the latter's variance that is not noise of the seeds; below 0 the "
        "models differ less than their seeds do. "
    )
    headings = ["axis", "kind", "metric", "oriented", "models", "seeds", "within", "between", "reliability"]
    title = "Noise floor: how far a metric of bias differs over seeds, and from model to model"
    return Table("noise_floor", title, found.noise, headings, 4, [Section("", rows)], _note(said, found))


def _matrix(axis: str, rows: pd.DataFrame, models: int) -> Figure:
    shown = rows[["intrinsic", "extrinsic", "spearman"]].assign(
        said=[_number(row.spearman, 2) + ("*" if row.significant else "") for row in _rows(rows)],
        dark=rows["spearman"].abs() > 0.65,
    )
    tall, wide = (list(rows[name].unique()) for name in ("intrinsic", "extrinsic"))
    base = alt.Chart(shown).encode(
        x=alt.X("extrinsic:N", sort=wide, title="extrinsic", axis=alt.Axis(labelLimit=320, labelAngle=-45)),
        y=alt.Y("intrinsic:N", sort=tall, title="intrinsic", axis=alt.Axis(labelLimit=320)),
    )
    # Orange and blue, which also those who see no red or green tell apart; what is missing stays grey.
    scale = alt.Scale(domain=[-1, 0, 1], range=[COLOURS[1], "#ffffff", COLOURS[0]], interpolate="rgb")
    colour = alt.Color("spearman:Q", scale=scale, title="Spearman")
    ink = alt.condition("datum.dark", alt.value("#fff"), alt.value("#222"))
    squares = [base.mark_rect(fill="#ddd", stroke="#bbb"), base.mark_rect(stroke="#bbb").encode(color=colour)]
    numbers = base.mark_text(fontSize=13).encode(text="said:N", color=ink)
    chart = alt.layer(*squares, numbers).properties(width=alt.Step(SQUARE), height=alt.Step(SQUARE))
    marked = f"A star: significant after Holm, n of {LEAST_FOR_VERDICT} or more. "
    if models < LEAST_FOR_VERDICT:
        marked = f"Of fewer than {LEAST_FOR_VERDICT} models no verdict is drawn. "
    listed = ", ".join(f"{row.intrinsic} with {row.extrinsic} {row.said}" for row in _rows(shown))
    return draw(
        f"agreement-{axis}",
        "agreement",
        chart,
        f"Spearman's rho of intrinsic and extrinsic metrics of {axis} over {models} models. {marked}"
        "No star does not mean no correlation: see the intervals and the power in the table.",
        f"Spearman's rho of {axis}: {listed}.",
    )


def _note(said: str, found: Agreement) -> str:
    return " ".join([said.strip(), *found.remarks])


def _rows(table: pd.DataFrame) -> Any:
    return table.itertuples(index=False)


def _number(value: float, decimals: int = 3) -> str:
    return formats.NOTHING if pd.isna(value) else f"{value:.{decimals}f}"


def _p(value: float) -> str:
    return formats.NOTHING if pd.isna(value) else f"{value:.2g}"


def _interval(row: Any, name: str) -> str:
    value, between = getattr(row, name), _range(getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
    return _number(value) if between == formats.NOTHING else f"{_number(value)} {between}"


def _range(low: float, high: float) -> str:
    return formats.NOTHING if pd.isna(low) else f"[{_number(low)}, {_number(high)}]"
