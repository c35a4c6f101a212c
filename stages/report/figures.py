"""Figures of a study: who holds what, utility by cell, by device and against epsilon, federated rounds, ROC."""

import re
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.report import curves, formats
from stages.report.drawing import COLOURS, SHAPES, WIDTH, Figure, beside, draw, lines, marks, overlay, tidy
from stages.results.metrics import METHODS, METRICS
from stages.results.sources import Source
from stages.results.summaries import headline
from stages.results.verbs import FITTING

UTILITY = (
    "accuracy",
    "macro_f1",
    "slot_f1",
    "exact_match",
    "answer_f1",
    "rouge1_f",
    "rouge2_f",
    "rougel_f",
    "perplexity",
    "masked_perplexity",
    "next_word_accuracy",
)
# Of models without accuracy a federation follows the loss.
FOLLOWED = (*UTILITY, "valid/loss")
# Of an attack's metrics, the first there is.
LEAKAGE = ("rmia_auc", "lira_auc", "auc")
ATTACKS = {"loss": "a threshold on the loss"} | {method: METHODS[method] for method in ("lira", "rmia")}
LABELS_SHOWN = 30
# Pixels of a plot that is as high as it is wide.
SIDE = 370


def figures(
    study: str, summary: pd.DataFrame, results: pd.DataFrame, sources: list[Source], target: float | None = None
) -> list[Figure]:
    """Return the figures that a study has data for.

    Args:
        study: Its name, which makes the ids of its figures unlike those of other studies.
        summary: The study's rows of `summaries.summarise`.
        results: The study's rows of the long table.
        sources: The study's cells.
        target: The utility that federations are timed to, in rounds, if there is one.
    """
    sizes = summary[(summary["verb"] == "partition") & (summary["metric"] == "clients")].set_index("cell")["mean"]
    dealt = {source.cell: curves.read(source) for source in sources if source.verb == "partition"}
    drawn = [_partition(name, table, sizes.get(name)) for name, table in dealt.items()]
    trained = summary[summary["verb"].isin(FITTING)]
    drawn += [_utility(rows, metric) for metric in UTILITY if len(rows := headline(trained, metric))]
    apart = [table for metric in UTILITY if len(table := _by_device(summary, metric))]
    drawn += [_light_and_heavy(table) for table in apart[:1]]
    # Under one adjacency for all: that of the mechanism differs from one to another.
    guaranteed = headline(trained, "replace_one_epsilon")
    utility = headline(trained, UTILITY[0])
    if len(guaranteed) and len(utility):
        drawn.append(_against_epsilon("utility-epsilon", "train", utility, UTILITY[0], guaranteed))
    attacked = summary[summary["verb"] == "attack"]
    leakage = next((metric for metric in LEAKAGE if len(headline(attacked, metric))), None)
    leaks = headline(attacked, leakage) if leakage else attacked.iloc[:0]
    if leakage and leaks["cell"].isin(guaranteed["cell"]).any():
        drawn.append(_against_epsilon("leakage-epsilon", "attack", leaks, leakage, guaranteed))
    histories = {source.cell: curves.read(source) for source in sources if source.verb == "federate"}
    for metric in _followed(histories)[:1]:
        drawn.append(_rounds(histories, metric))
        if target is not None:
            drawn.append(_rounds_to_target(histories, metric, target))
    attacks = {source.cell: curves.read(source) for source in sources if source.verb == "attack"}
    for method in ATTACKS:
        rates = {cell: table[table["method"] == method] for cell, table in attacks.items()}
        if rates := {cell: table for cell, table in rates.items() if len(table)}:
            drawn.append(_roc(rates, method))
    exposed = results[results["metric"] == "canary_exposure"]
    if len(exposed):
        chance = results.loc[results["metric"] == "chance_canary_exposure", "value"].mean()
        drawn.append(_exposures(exposed, float(chance)))
    told, depends = (headline(summary, name) for name in ("accuracy_of_drawn_gender", "decisions_by_gender"))
    if len(told) and len(depends):
        drawn.append(_against_dependence(told, depends))
    undefended = summary[(summary["verb"] == "extract") & (summary["role"] == "baseline")]
    copies = undefended[undefended["metric"] == "canary_repetitions"].set_index("cell")["mean"]
    if copies.nunique() > 1:
        drawn.append(_repetitions(undefended, copies))
    return [tidy(figure, study) for figure in drawn]


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
    return draw(
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
    table = _with_interval(rows)[["cell", "mean", "ci_low", "ci_high"]].assign(role=rows["role"].fillna("none"))
    title = METRICS[metric].title
    if rows["seeds"].max() > 1:
        interval = "mean over seeds; the line is the interval over seeds"
    else:
        interval = "one seed, so no interval of seeds; the line is what the sampling of examples leaves open"
    base = alt.Chart(table).encode(y=alt.Y("cell:N", sort=list(table["cell"]), title=None))
    x = alt.X(
        "mean:Q", title=f"{title} ({rows['split'].iloc[0]})", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)
    )
    intervals = base.mark_rule(strokeWidth=2, color="#777").encode(x=alt.X("ci_low:Q"), x2="ci_high:Q")
    legend = alt.Legend(orient="bottom") if table["role"].nunique() > 1 else None
    shape = alt.Shape("role:N", sort=list(table["role"].unique()), legend=legend)
    points = base.mark_point(size=90, filled=True, color=COLOURS[0], opacity=1).encode(x=x, shape=shape)
    means = [f"{row.cell} {row.mean:.3f}" for row in table.itertuples()]
    return draw(
        f"utility-{metric.replace('_', '-')}",
        "train",
        overlay([intervals, points], height=34 * len(table)),
        f"{title[:1].upper()}{title[1:]} of each cell: {interval}.",
        f"{title} by cell: {', '.join(means)}.",
    )


def _with_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the interval over seeds or, where there is one seed, with what the examples leave open."""
    if (rows["seeds"] > 1).any():
        return rows
    # Without it cells of one seed would seem further apart than anybody knows.
    half = rows["sampling_half_width"].fillna(0.0)
    return rows.assign(ci_low=rows["mean"] - half, ci_high=rows["mean"] + half)


def _by_device(summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a row a federation that has the metric of both heavy and light devices, whose columns end so."""
    rows = summary[(summary["verb"] == "federate") & (summary["split"] == "test") & (summary["metric"] == metric)]
    # Without an interval, for one seed where others have more, the line is a point.
    rows = _with_interval(rows).fillna(dict.fromkeys(("ci_low", "ci_high"), rows["mean"]))
    heavy, light = (rows[rows["group"] == f"{kind} devices"] for kind in ("heavy", "light"))
    return heavy.merge(light, on=["cell", "metric"], suffixes=("_heavy", "_light"))


def _light_and_heavy(table: pd.DataFrame) -> Figure:
    metric = METRICS[table["metric"].iloc[0]]
    means = table[["mean_heavy", "mean_light"]].to_numpy()
    unbeaten = table[_unbeaten(means if metric.best == "max" else -means)].sort_values("mean_heavy", kind="stable")
    # Both axes in pixels, which labels have to be placed in.
    least = table[["ci_low_heavy", "ci_low_light"]].min().to_numpy()
    most = table[["ci_high_heavy", "ci_high_light"]].max().to_numpy()
    margin = np.where(most > least, 0.05 * (most - least), 0.5)
    start, pixel = least - margin, (most - least + 2 * margin) / SIDE
    labels = start + pixel * beside((means - start) / pixel)
    numbers = [str(place) for place in range(1, len(table) + 1)]
    named = [f"{number} {cell}" for number, cell in zip(numbers, table["cell"], strict=True)]
    table = table.assign(number=numbers, named=named, label_heavy=labels[:, 0], label_light=labels[:, 1])
    axes: list[dict[str, Any]] = [
        {
            "title": f"{metric.title}, {kind} devices",
            "scale": alt.Scale(domain=[low, low + SIDE * step]),
            # Among the intervals a grid would be lost.
            "axis": alt.Axis(grid=False, tickCount=6),
        }
        for kind, low, step in zip(("heavy", "light"), start, pixel, strict=True)
    ]

    def at(rows: pd.DataFrame, heavy: str = "mean_heavy", light: str = "mean_light") -> alt.Chart:
        return alt.Chart(rows).encode(x=alt.X(f"{heavy}:Q", **axes[0]), y=alt.Y(f"{light}:Q", **axes[1]))

    shape, colour = _looks("named", named, columns=2)
    label = at(table, "label_heavy", "label_light").encode(text="number:N")
    chart = alt.layer(
        at(table, heavy="ci_low_heavy").mark_rule(color="#bbb").encode(x2="ci_high_heavy:Q"),
        at(table, light="ci_low_light").mark_rule(color="#bbb").encode(y2="ci_high_light:Q"),
        at(unbeaten).mark_line(strokeWidth=1, color="#333"),
        at(table).mark_rule(strokeWidth=0.7, color="#777").encode(x2="label_heavy:Q", y2="label_light:Q"),
        at(table).mark_point(size=70, filled=True, opacity=1).encode(shape=shape, color=colour),
        # What lies below a number must not strike it through.
        label.mark_text(fontSize=12, stroke="white", strokeWidth=3),
        label.mark_text(fontSize=12, color="#000"),
    )
    if table["seeds_heavy"].max() > 1:
        seeds = f"mean over {formats.span(table['seeds_heavy'])} seeds; the crosshairs are the 95% intervals over seeds"
    else:
        seeds = "one seed, so no interval of seeds; the crosshairs are what the sampling of examples leaves open"
    heavy, light = (formats.span(table[f"n_{kind}"]) for kind in ("heavy", "light"))
    better = "up and to the right" if metric.best == "max" else "down and to the left"
    best = ", ".join(unbeaten["cell"])
    front = "the thin line is the Pareto front" if len(unbeaten) > 1 else f"{best} is all of the Pareto front"
    said = [f"{row.cell} {row.mean_heavy:.3f} and {row.mean_light:.3f}" for row in table.itertuples()]
    return draw(
        "light-and-heavy",
        "train",
        chart.properties(width=SIDE, height=SIDE),
        f"Light and heavy devices: {metric.title} on the test examples of either (n = {heavy} of heavy devices, "
        f"{light} of light ones), {seeds}. A point further {better} is better; {front}, the cells that no other "
        "matches on both and beats on one.",
        f"{metric.title} on heavy and on light devices: {', '.join(said)}. Pareto front: {best}.",
    )


def _unbeaten(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (n, 2) values, the higher the better, no other is as good as in both and better than in one."""
    as_good = np.all(values >= values[:, None], axis=2)
    better = np.any(values > values[:, None], axis=2)
    found: NDArray[np.bool_] = ~np.any(as_good & better, axis=1)
    return found


def _against_epsilon(name: str, step: str, rows: pd.DataFrame, metric: str, guaranteed: pd.DataFrame) -> Figure:
    # Without an interval, for one seed, the line is a point.
    lone = dict.fromkeys(("ci_low", "ci_high"), rows["mean"])
    table = rows[["cell", "mean", "ci_low", "ci_high"]].fillna(lone)
    table["epsilon"] = table["cell"].map(guaranteed.set_index("cell")["mean"])
    private, others = table[table["epsilon"].notna()], table[table["epsilon"].isna()]
    title = METRICS[metric].title
    scale = alt.Scale(domain=[table["ci_low"].min(), table["ci_high"].max()], nice=True)
    cells = list(table["cell"])
    powers = np.log10(private["epsilon"])
    least, most = np.floor(powers.min()), max(np.ceil(powers.max()), np.floor(powers.min()) + 1)
    log = alt.Scale(type="log", domain=[10**least, 10**most])
    epsilon = alt.X(
        "epsilon:Q",
        title="epsilon, replacing one example or client",
        scale=log,
        axis=alt.Axis(format="~g", tickCount=4),
    )
    no_axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
    sides = [_points(private, epsilon, {"title": title, "scale": scale}, cells, 230)]
    if len(others):
        beside = alt.X("cell:N", title="no guarantee", sort=cells, axis=no_axis)
        sides.append(_points(others, beside, {"title": None, "scale": scale, "axis": no_axis}, cells, 110))
    said = [f"{row.cell} {row.mean:.3f} at epsilon {row.epsilon:.3g}" for row in private.itertuples()]
    said += [f"{row.cell} {row.mean:.3f} without a guarantee" for row in others.itertuples()]
    return draw(
        name,
        step,
        alt.hconcat(*sides, spacing=12).resolve_scale(y="shared", shape="shared", color="shared"),
        f"{title[:1].upper()}{title[1:]} against epsilon under the replacement of one example, or client: mean and "
        "interval over seeds; on the right, training that guarantees nothing.",
        f"{title} against epsilon: {', '.join(said)}.",
    )


def _against_dependence(told: pd.DataFrame, depends: pd.DataFrame) -> Figure:
    """Draw utility against how many decisions depend on gender: what it costs to have fewer."""
    rows = _with_interval(told).merge(_with_interval(depends), on="cell", suffixes=("", "_depends"))
    # Without an interval, for one seed where others have more, the line is a point.
    lone = {f"{end}{of}": rows[f"mean{of}"] for end in ("ci_low", "ci_high") for of in ("", "_depends")}
    table = rows.fillna(lone)
    y: dict[str, Any] = {"title": METRICS["accuracy_of_drawn_gender"].title, "scale": alt.Scale(zero=False)}
    x = alt.X("mean_depends:Q", title=METRICS["decisions_by_gender"].title, axis=alt.Axis(format="%"))
    across = alt.Chart(table).mark_rule(strokeWidth=2, color="#777")
    across = across.encode(x="ci_low_depends:Q", x2="ci_high_depends:Q", y=alt.Y("mean:Q", **y))
    said = [f"{row.cell} {row.mean:.3f} with {row.mean_depends:.1%}" for row in table.itertuples()]
    return draw(
        "utility-decisions-by-gender",
        "score",
        alt.layer(across, _points(table, x, y, list(table["cell"]), SIDE)),
        "Accuracy on texts in a gender that a coin draws, against the share of decisions that the other gender "
        "changes: mean and interval over seeds. Further up and to the left is better.",
        f"Accuracy, and decisions that gender changes: {', '.join(said)}.",
    )


def _points(table: pd.DataFrame, x: alt.X, y: dict[str, Any], cells: list[str], width: int) -> Any:
    shape, colour = _looks("cell", cells, columns=3)
    base = alt.Chart(table).encode(x=x)
    intervals = base.mark_rule(strokeWidth=2, color="#777").encode(y=alt.Y("ci_low:Q", **y), y2="ci_high:Q")
    means = base.mark_point(size=110, filled=True, opacity=1).encode(y=alt.Y("mean:Q", **y), shape=shape, color=colour)
    return alt.layer(intervals, means).properties(width=width, height=240)


def _looks(column: str, names: list[str], columns: int) -> tuple[alt.Shape, alt.Color]:
    legend = alt.Legend(orient="bottom", columns=columns, title=None)
    shape = alt.Shape(f"{column}:N", scale=alt.Scale(domain=names, range=marks(SHAPES, len(names))), legend=legend)
    return shape, alt.Color(f"{column}:N", scale=alt.Scale(domain=names, range=COLOURS), legend=legend)


def _followed(histories: dict[str, pd.DataFrame]) -> list[str]:
    """Return the metrics that every federation followed round by round, those of utility first."""
    followed = [set(history["metric"]) for history in histories.values()]
    names = sorted(set.intersection(*followed)) if followed else []
    return sorted(names, key=lambda name: not name.endswith(FOLLOWED))


def _rounds(histories: dict[str, pd.DataFrame], metric: str) -> Figure:
    averaged = {cell: curves.rounds(history, metric) for cell, history in histories.items()}
    followed = pd.concat([table.assign(cell=cell) for cell, table in averaged.items()])
    title = re.sub("[_/]", " ", metric)
    x = alt.X("step:Q", title="round", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    last = [f"{cell} {table.loc[table['seed'] == 'mean', 'value'].iloc[-1]:.3f}" for cell, table in averaged.items()]
    return draw(
        "rounds",
        "train",
        overlay(lines(followed, x, y), height=260),
        f"Federated rounds: {title}. Thick: mean over seeds. Thin: each seed.",
        f"{title} after the last round: {', '.join(last)}.",
    )


def _rounds_to_target(histories: dict[str, pd.DataFrame], metric: str, target: float) -> Figure:
    reached = {cell: curves.rounds_to_target(history, metric, target) for cell, history in histories.items()}
    seeds = pd.concat([rounds.rename("round").reset_index().assign(cell=cell) for cell, rounds in reached.items()])
    last = max(int(history["step"].max()) for history in histories.values())
    title = re.sub("[_/]", " ", metric)
    said = {
        cell: f"mean {rounds.mean():.0f}, {curves.sent(histories[cell], rounds).mean() / 2**20:,.0f} MiB"
        if rounds.notna().all()
        else f"{rounds.isna().sum()} of {len(rounds)} seeds never"
        for cell, rounds in reached.items()
    }
    cells = list(reached)
    y = alt.Y("cell:N", sort=cells, title=None)
    x = alt.X("round:Q", title=f"rounds to a {title} of {target:g}", scale=alt.Scale(domain=[0, last]))
    each = alt.Chart(seeds.dropna()).mark_tick(thickness=2, size=16, color=COLOURS[0]).encode(x=x, y=y)
    words = pd.DataFrame({"cell": cells, "said": list(said.values()), "round": last})
    shown = alt.Chart(words).mark_text(align="right", dy=-12, fontSize=12, color="#333").encode(x=x, y=y, text="said:N")
    return draw(
        "rounds-to-target",
        "train",
        overlay([each, shown], height=46 * len(cells)),
        f"Rounds until the {title} first reaches {target:g} (set in params.yaml, report.targets): a line for each "
        "seed; in words, the mean, and what was sent until then, both ways. Each ran for at most "
        f"{last} rounds.",
        f"Rounds to a {title} of {target:g}: {', '.join(f'{cell} {words}' for cell, words in said.items())}.",
    )


def _roc(attacks: dict[str, pd.DataFrame], method: str) -> Figure:
    rates = pd.concat([table["false_positive_rate"] for table in attacks.values()])
    floor = 10 ** np.floor(np.log10(rates[rates > 0].min()))
    grid = np.geomspace(floor, 1, curves.POINTS)
    rising = pd.concat([curves.roc(table, grid).assign(cell=cell) for cell, table in attacks.items()])
    rising = rising[rising["true_positive_rate"] > 0]
    scale = alt.Scale(type="log", domain=[floor, 1])
    axis = alt.Axis(format="~g", values=list(10.0 ** np.arange(np.log10(floor), 1)))
    x = alt.X("false_positive_rate:Q", title="false positive rate", scale=scale, axis=axis)
    y = alt.Y("true_positive_rate:Q", title="true positive rate", scale=scale, axis=axis)
    ends = pd.DataFrame({"false_positive_rate": [floor, 1], "true_positive_rate": [floor, 1]})
    chance = alt.Chart(ends).mark_line(color="#999", strokeWidth=1).encode(x=x, y=y)
    return draw(
        "roc" if method == "loss" else f"roc-{method}",
        "attack",
        overlay([chance, *lines(rising, x, y)], height=WIDTH - 60),
        f"Membership inference by {ATTACKS[method]}, ROC on log axes. Thick: mean over seeds. Thin: each seed. The "
        "straight line is chance.",
        f"ROC of {ATTACKS[method]} on {', '.join(attacks)}, beside the diagonal of chance.",
    )


def _exposures(rows: pd.DataFrame, chance: float) -> Figure:
    means = rows.groupby("cell", sort=False)["value"].mean()
    cells, most = list(means.index), float(np.log2(rows["n"].max()))
    y = alt.Y("cell:N", sort=cells, title=None)
    x = alt.X("value:Q", title="exposure of the secret (bits)", scale=alt.Scale(domain=[0, most]))
    trials = alt.Chart(rows[["cell", "value"]])
    each = trials.mark_tick(thickness=2, size=16, color=COLOURS[0], opacity=0.6).encode(x=x, y=y)
    by_chance = alt.Chart(pd.DataFrame({"value": [chance]})).mark_rule(strokeDash=[4, 4], color="#777").encode(x=x)
    return draw(
        "exposure",
        "extract",
        overlay([by_chance, each], height=34 * len(cells)),
        f"Exposure of each trial's secret: {most:.1f} bits if no other code has a lower loss, {chance:.1f} (dashed) on "
        "average if the model says nothing of it.",
        f"Mean exposure in bits: {', '.join(f'{cell} {mean:.1f}' for cell, mean in means.items())}.",
    )


def _repetitions(rows: pd.DataFrame, copies: pd.Series) -> Figure:
    table = rows.assign(copies=rows["cell"].map(copies)).sort_values("copies", kind="stable")
    ends = [10 ** np.floor(np.log10(copies.min())), 10 ** np.ceil(np.log10(copies.max()))]
    x = alt.X("copies:Q", title="canaries in the training data", scale=alt.Scale(type="log", domain=ends))
    panels, said = [], []
    for metric in ("canary_accuracy", "canary_exposure"):
        shown = table[table["metric"] == metric]
        y: dict[str, Any] = {"title": METRICS[metric].title, "scale": alt.Scale(domainMin=0)}
        base = alt.Chart(shown[["copies", "mean", "ci_low", "ci_high"]]).encode(x=x)
        intervals = base.mark_rule(strokeWidth=2, color="#777").encode(y=alt.Y("ci_low:Q", **y), y2="ci_high:Q")
        means = base.mark_line(color=COLOURS[0], point={"size": 90, "color": COLOURS[0]}).encode(y=alt.Y("mean:Q", **y))
        panels.append(alt.layer(intervals, means).properties(width=170, height=240))
        of_copies = ", ".join(f"{row.mean:.3g} at {row.copies:g}" for row in shown.itertuples())
        said.append(f"{METRICS[metric].title}: {of_copies}")
    return draw(
        "repetitions",
        "extract",
        alt.hconcat(*panels, spacing=24),
        "What is extracted without a defence, against the number of canaries in the training data: mean over "
        "trials and its 95% interval.",
        f"By canaries in the training data. {'. '.join(said)}.",
    )
