import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.report import formats
from stages.report.tables import Table, guarantees, latex, markdown, tables
from stages.results.long_table import COLUMNS, long_table
from stages.results.metrics import METRICS, Metric
from stages.results.sources import sources
from stages.results.summaries import summarise


def rows(*entries: dict[str, Any]) -> pd.DataFrame:
    base = {"study": "s", "verb": "train", "cell": "a", "role": "model", "split": "test", "unit": "fraction"}
    return summarise(pd.DataFrame([base | entry for entry in entries], columns=list(COLUMNS)).astype(COLUMNS))


def accuracy(variant: str, *values: float) -> list[dict[str, Any]]:
    entry = {"cell": variant, "metric": "accuracy", "best": "max", "n": 1200, "ci_low": 0.7, "ci_high": 0.76}
    return [entry | {"seed": seed, "value": value} for seed, value in enumerate(values)]


def study(parameters: dict[str, Any], name: str) -> dict[str, Table]:
    summary = summarise(long_table("quick", sources(parameters, name)))
    return {table.name: table for table in tables(summary)}


def test_markdown_shows_the_mean_its_interval_the_arrow_and_the_sampling_width_apart() -> None:
    (table,) = tables(rows(*accuracy("a", 0.78, 0.80, 0.82), *accuracy("b", 0.7, 0.7, 0.7)))

    assert markdown(table).splitlines() == [
        "| metric | cell | mean [95% interval over 3 seeds] | seeds | sampling ± | n |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| accuracy ↑, test | a | 0.800 [0.750, 0.850] | 3 | 0.030 | 1,200 |",
        "| accuracy ↑, test | b | 0.700 (all seeds) | 3 | 0.030 | 1,200 |",
    ]


def test_latex_has_the_rows_of_the_table_with_rules_of_booktabs() -> None:
    (table,) = tables(rows(*accuracy("50%_a", 0.78, 0.80, 0.82), *accuracy("[b]", 0.7, 0.7, 0.7)))

    assert latex(table).splitlines() == [
        "% Train: what the models can do, and what their training guarantees. Needs booktabs.",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"cell & mean [95\% interval over 3 seeds] & seeds & sampling $\pm$ & n \\",
        r"\midrule",
        r"\multicolumn{5}{l}{\emph{accuracy $\uparrow$, test}} \\",
        r"50\%\_a & 0.800 [0.750, 0.850] & 3 & 0.030 & 1,200 \\",
        r"{}[b] & 0.700 (all seeds) & 3 & 0.030 & 1,200 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_long_table_may_break_over_pages_in_latex() -> None:
    (table,) = tables(rows(*(row for cell in range(50) for row in accuracy(f"cell {cell}", 0.7, 0.8))))

    assert r"\begin{longtable}{lrrrr}" in latex(table)
    assert r"\endhead" in latex(table)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
@pytest.mark.usefixtures("project")
def test_latex_takes_every_table(parameters: dict[str, Any], tmp_path: Path) -> None:
    found = [*study(parameters, "whole").values(), *tables(rows(*accuracy(r"all of ~^\{}$<>#&", 0.8, 0.9)))]
    body = "\n\n".join(latex(table) for table in found)
    document = rf"\documentclass{{article}}\usepackage{{booktabs,longtable}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout[-2000:]


def test_one_seed_is_shown_without_an_interval_and_says_so() -> None:
    (table,) = tables(rows(*accuracy("a", 0.8)))

    assert "| value (one seed: no interval) | seeds | sampling ± | n |" in markdown(table)
    assert "| a | 0.800 | 1 | 0.030 | 1,200 |" in markdown(table)


def test_cells_with_different_numbers_of_seeds_are_announced() -> None:
    (table,) = tables(rows(*accuracy("a", 0.8, 0.9), *accuracy("b", 0.8, 0.8, 0.9)))

    assert "mean [95% interval over 2 to 3 seeds]" in table.headings


def test_numbers_are_columns_of_their_own() -> None:
    (table,) = tables(rows(*accuracy("a", 0.78, 0.80, 0.82)))

    row = table.numbers.iloc[0]
    assert row[["cell", "metric", "split", "unit", "better"]].tolist() == ["a", "accuracy", "test", "fraction", "up"]
    assert row[["mean", "ci_low", "ci_high", "seeds", "n", "sampling_half_width"]].tolist() == pytest.approx(
        [0.8, 0.750317, 0.849683, 3, 1200, 0.03], abs=1e-6
    )


def test_arrows_point_to_better() -> None:
    assert [formats.arrow(best) for best in ("max", "min", 50.0, None)] == ["↑", "↓", "→ 50", ""]


def test_a_target_is_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "balance", Metric("percent", 50.0, "balance"))

    (table,) = tables(rows({"metric": "balance", "seed": 0, "value": 48.25, "best": "50", "unit": "percent"}))

    assert table.sections[0].title == "balance → 50, test"
    assert table.sections[0].rows == [["a", "48.25", "1", "–", "–"]]  # noqa: RUF001
    assert table.numbers["better"].tolist() == ["target 50"]


def test_counts_and_unknown_units() -> None:
    given = [(66051.0, "count"), (12.26, "examples"), (0.123456, "bits"), (0.123456, "percent")]

    assert [formats.number(value, unit) for value, unit in given] == ["66,051", "12.3", "0.123", "0.1235"]


def test_a_small_share_is_not_shown_as_none() -> None:
    given = [0.0, 0.0001, 0.0004, 0.0006, -0.00002]

    assert [formats.number(value, "fraction") for value in given] == ["0.000", "0.0001", "0.0004", "0.001", "-2e-05"]


def test_a_bar_in_a_name_does_not_break_markdown() -> None:
    (table,) = tables(rows(*accuracy("a|b", 0.8)))

    assert "| a&#124;b |" in markdown(table)


@pytest.mark.usefixtures("project")
def test_a_study_has_the_tables_of_its_steps_only(parameters: dict[str, Any]) -> None:
    assert list(study(parameters, "whole")) == ["joint", "partition", "train", "attack", "score"]
    assert list(study(parameters, "trained_only")) == ["train"]


@pytest.mark.usefixtures("project")
def test_verbs_that_train_share_a_table(parameters: dict[str, Any]) -> None:
    table = study(parameters, "trained_only")["train"]

    assert table.headings[:2] == ["cell", "verb"]
    names = [row[:2] for row in table.sections[0].rows]
    assert names == [["large", "train"], ["small", "train"], ["distilled", "distill"]]


@pytest.mark.usefixtures("project")
def test_the_joint_table_has_a_row_per_cell(parameters: dict[str, Any]) -> None:
    table = study(parameters, "whole")["joint"]

    cells = [row[0] for row in table.sections[0].rows]
    assert cells == ["none", "dpsgd", "control", "fedavg"]
    epsilons = ["epsilon ↓", "epsilon, replacing one ↓"]
    assert table.headings[:6] == ["cell", "role", "accuracy ↑", *epsilons, "attack AUC → 0.5"]
    assert table.headings[-1] == "counterfactual flip rate ↓"
    assert [row[3] for row in table.sections[0].rows] == [
        "no guarantee",
        "2.97 (all seeds)",
        "no guarantee",
        "no guarantee",
    ]
    control = table.sections[0].rows[2]
    assert control[1] == "control"
    assert control[-1] == formats.NOTHING
    numbers = table.numbers.set_index("cell")
    assert numbers.loc["dpsgd", "epsilon_mean"] == 2.97
    assert numbers["epsilon_mean"].isna().tolist() == [True, False, True, True]
    assert numbers.loc["none", "accuracy_sampling_half_width"] > 0


@pytest.mark.usefixtures("project")
def test_an_epsilon_states_what_it_holds_under(parameters: dict[str, Any]) -> None:
    results = long_table("quick", sources(parameters, "whole"))

    guaranteed = guarantees(results)

    assert list(guaranteed) == ["train"]
    said = guaranteed["train"]
    assert said.startswith(
        "Epsilon of dpsgd: delta 1e-05, adding or removing one example, Poisson sampling of examples."
    )
    found = {table.name: table.note for table in tables(summarise(results), guaranteed)}
    assert said in found["joint"]
    assert found["train"] == said
    assert "That one is weak" in found["attack"]
    assert guarantees(results[results["cell"] == "none"]) == {}


def test_an_update_states_an_epsilon_of_its_own_beside_that_of_the_model() -> None:
    trained = {"verb": "train", "cell": "a", "split": "train", "mechanism": "dpsgd"}
    update = {"verb": "invert", "cell": "b", "split": "gradient", "mechanism": "gaussian"}
    common = {"study": "s", "role": "model", "seed": 0, "unit": "epsilon", "best": "min"}
    stated = [
        common | of | {"metric": metric, "value": value}
        for of, epsilon in ((trained, 3.0), (update, 8.0))
        for metric, value in (("epsilon", epsilon), ("delta", 1e-5))
    ]
    results = pd.DataFrame(stated, columns=list(COLUMNS)).astype(COLUMNS)

    said = guarantees(results)

    assert said["invert"].startswith(
        "Epsilon of b: delta 1e-05, replacing one text of a batch by nothing, no sampling."
    )
    assert "for one update of one client" in said["invert"]
    assert "Epsilon of a" in said["train"]
    found = {table.name: table for table in tables(summarise(results), said)}
    assert said["invert"] in found["invert"].note
    assert [row[2] for row in found["joint"].sections[0].rows] == ["3.00", "8.00"]


@pytest.mark.parametrize(
    ("mechanism", "replaced", "said"),
    [
        ("edpsgd", 3.0, "replacing one example, Poisson sampling of groups that were dealt"),
        ("edpsgd", 5.5, "adding or removing one example, Poisson sampling of examples"),
        ("dp_fedavg", 5.5, "adding or removing one client with all its examples, Poisson sampling of clients"),
        ("dp_ftrl", 5.5, "replacing one client with all its examples by one that sends nothing"),
    ],
    ids=["groups", "decay alone", "clients", "clients in turn"],
)
def test_an_epsilon_says_whom_it_is_of(mechanism: str, replaced: float, said: str) -> None:
    verb = "train" if mechanism == "edpsgd" else "federate"
    common = {"study": "s", "role": "model", "seed": 0, "unit": "epsilon", "best": "min", "verb": verb, "cell": "a"}
    stated = [
        common | {"split": "train", "mechanism": mechanism, "metric": metric, "value": value}
        for metric, value in (("epsilon", 3.0), ("replace_one_epsilon", replaced), ("delta", 1e-5))
    ]
    assert said in guarantees(pd.DataFrame(stated, columns=list(COLUMNS)).astype(COLUMNS))["train"]


def test_the_joint_table_of_an_extraction_says_nothing_of_membership_inference() -> None:
    entry = {"verb": "extract", "metric": "canary_exposure", "unit": "bits", "best": "min", "split": "canaries"}
    exposure = [entry | {"seed": seed, "value": value} for seed, value in enumerate([12.0, 13.0, 13.0])]

    found = {table.name: table for table in tables(rows(*accuracy("a", 0.78, 0.80, 0.82), *exposure))}

    assert list(found) == ["joint", "train", "extract"]
    assert found["joint"].headings[-1] == "exposure of the secret ↓"
    assert found["joint"].sections[0].rows[0][-1].startswith("12.667 [")
    assert "The oracle tries every code" in found["joint"].note
    assert "membership inference" not in found["joint"].note
    assert found["extract"].note in found["joint"].note


def test_the_joint_table_of_inversions_has_their_model_once_and_speaks_of_gradients_alone() -> None:
    entry = {
        "verb": "invert",
        "cell": "b",
        "metric": "token_accuracy",
        "unit": "fraction",
        "best": "min",
        "split": "gradient",
    }
    accuracies = [entry | {"seed": seed, "value": value, "n": 2} for seed, value in enumerate([0.8, 0.9, 1.0])]

    found = {table.name: table for table in tables(rows(*accuracy("a", 0.78, 0.80, 0.82), *accuracies))}

    assert found["joint"].headings[-1] == "tokens reconstructed in their place ↓"
    assert [(row[0], row[2][:5], row[-1][:5]) for row in found["joint"].sections[0].rows] == [
        ("a", "0.800", formats.NOTHING),
        ("b", formats.NOTHING, "0.900"),
    ]
    assert "mean gradient of a batch" in found["joint"].note
    assert "oracle" not in found["joint"].note
    assert found["invert"].note in found["joint"].note


@pytest.mark.usefixtures("project")
def test_the_joint_csv_agrees_with_the_metrics_files(parameters: dict[str, Any], project: Path) -> None:
    results = long_table("quick", sources(parameters, "whole"))
    auc = results[(results["metric"] == "auc") & (results["cell"] == "fedavg")]["value"]

    numbers = study(parameters, "whole")["joint"].numbers.set_index("cell")

    assert numbers.loc["fedavg", "auc_mean"] == pytest.approx(auc.mean())
