import time
from pathlib import Path

from pipelines.engine import Outcome
from pipelines.graph import Stage
from pipelines.resources import Needs
from pipelines.terminal import Silent, Terminal, failures, plan_lines, summary


def stage(name: str, upstream: tuple[str, ...] = (), changes: tuple[str, ...] = ()) -> Stage:
    return Stage(name, name, ("true",), (), (), upstream, changes, Needs())


PLAN = [
    stage("first", changes=("dependency modified: input", "output deleted: a")),
    stage("beside"),
    stage("middle", ("beside", "first")),
    stage("last", ("middle", "beside"), ("parameter modified: rate (1 -> 2)",)),
    stage("apart", ("beside",)),
]
FAILED = Outcome("bad", "failed", 1.25, "exit code 3", 3, Path("/logs/bad.log"), ("one", "[red]two[/red]"))


def test_plan_lines_say_what_would_run_and_why():
    assert plan_lines(PLAN, force=False) == [
        "first",
        "  dependency modified: input",
        "  output deleted: a",
        "middle",
        "  reads from first",
        "last",
        "  parameter modified: rate (1 -> 2)",
    ]
    assert plan_lines([stage("first")], force=False) == []


def test_plan_lines_of_a_forced_run_name_every_stage():
    lines = plan_lines(PLAN, force=True)
    assert [line for line in lines if not line.startswith(" ")] == [stage.name for stage in PLAN]
    assert lines[3:7] == ["beside", "  forced", "middle", "  forced"]


def test_summary_counts_in_the_order_of_the_plan():
    statuses = ["ran", "failed", "ran", "blocked", "skipped"]
    assert summary([Outcome(str(number), status) for number, status in enumerate(statuses)]) == (
        "2 ran, 1 failed, 1 blocked, 1 skipped"
    )


def test_failures_say_why_with_the_last_lines_and_the_log():
    outcomes = [Outcome("good", "ran"), FAILED, Outcome("after", "blocked", reason="reads from bad")]
    assert failures(outcomes) == [
        "\nbad failed: exit code 3",
        "  one",
        "  [red]two[/red]",
        "all of its output: /logs/bad.log",
    ]
    assert failures([Outcome("bad", "failed", reason="no input")]) == ["\nbad failed: no input"]
    assert failures([Outcome("good", "ran")]) == []


def test_plain_output_has_every_line_with_its_stage(capsys):
    with Terminal() as terminal:
        terminal.says("waiting")
        terminal.started("bad")
        terminal.line("bad", "[red]no markup[/red] " + "long " * 60)
        terminal.ended(FAILED)
        terminal.ended(Outcome("after", "blocked", reason="reads from bad"))
        terminal.ended(Outcome("same", "skipped"))
        terminal.ended(Outcome("old", "restored"))
    assert capsys.readouterr().out.splitlines() == [
        "waiting",
        "bad: runs",
        "bad | [red]no markup[/red] " + "long " * 60,
        "bad: failed, 1.2 s (exit code 3)",
        "after: blocked (reads from bad)",
        "old: restored",
    ]


def test_a_terminal_shows_the_last_line_of_what_runs(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = ""
    with Terminal() as terminal:
        terminal.started("train")
        terminal.line("train", "epoch [1]")
        deadline = time.monotonic() + 5
        while "epoch [1]" not in shown:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
            shown += capsys.readouterr().out
        terminal.line("gone", "a line that comes late")
        terminal.ended(Outcome("train", "ran", 3.0))
    after = capsys.readouterr().out
    assert "train: runs" not in shown + after
    assert "train: ran, 3.0 s" in after
    assert "comes late" not in after


def test_silence_leaves_the_standard_output_to_json(capsys):
    with Silent() as silent:
        silent.started("a")
        silent.line("a", "text")
        silent.ended(FAILED)
        silent.says("waiting")
    assert capsys.readouterr() == ("", "waiting\n")
