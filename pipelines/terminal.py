"""What a person at a terminal, or a file behind it, sees of a run."""

import sys
import threading
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipelines.engine import Outcome
from pipelines.graph import Stage, affected


class Terminal:
    """Prints what happens: with a terminal one line per running stage, with its time; otherwise plain lines."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._running: dict[str, tuple[float, str]] = {}
        self._guard = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> "Terminal":
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._lines, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def started(self, stage: str) -> None:
        """Show that a stage runs."""
        with self._guard:
            self._running[stage] = time.monotonic(), ""
        if not self._live:
            self._print(f"{stage}: runs")

    def line(self, stage: str, text: str) -> None:
        """Show the last line a stage printed; without a terminal, every line."""
        if not self._live:
            self._print(f"{stage} | {text}")
            return
        with self._guard:
            if stage in self._running:
                self._running[stage] = self._running[stage][0], text

    def ended(self, outcome: Outcome) -> None:
        """Show what became of a stage, unless it is up to date."""
        with self._guard:
            self._running.pop(outcome.stage, None)
        if outcome.status != "skipped":
            took = f", {outcome.seconds:.1f} s" if outcome.seconds else ""
            self._print(f"{outcome.stage}: {outcome.status}{took}{f' ({outcome.reason})' if outcome.reason else ''}")

    def says(self, text: str) -> None:
        """Show a message of the engine."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _lines(self) -> Group:
        now = time.monotonic()
        with self._guard:
            running = list(self._running.items())
        rows = [Text(f"{stage}  {now - since:6.0f} s  {text}", no_wrap=True) for stage, (since, text) in running]
        return Group(*rows)


class Silent:
    """Shows nothing but what the engine waits for, on the standard error: for `--json`."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None: ...

    def started(self, stage: str) -> None:
        """Show nothing."""

    def line(self, stage: str, text: str) -> None:
        """Show nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Show nothing."""

    def says(self, text: str) -> None:
        """Show a message of the engine."""
        print(text, file=sys.stderr)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many stages came to what: `3 ran, 1 failed`."""
    statuses = [outcome.status for outcome in outcomes]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Return for each failed stage its reason, the last lines of its output, and where the rest is."""
    found = []
    for outcome in outcomes:
        if outcome.status == "failed":
            found += [f"\n{outcome.stage} failed: {outcome.reason}", *(f"  {line}" for line in outcome.tail)]
            found += [f"all of its output: {outcome.log}"] if outcome.log else []
    return found


def plan_lines(plan: Sequence[Stage], force: bool) -> list[str]:
    """Return what a run would do, stage by stage, and why."""
    names = {stage.name for stage in plan} if force else set(affected(plan))
    lines = []
    for stage in plan:
        if stage.name not in names:
            continue
        lines.append(stage.name)
        lines += [f"  {change}" for change in stage.changes]
        if not stage.changes:
            above = [name for name in stage.upstream if name in names]
            lines.append(f"  reads from {', '.join(above)}" if above and not force else "  forced")
    return lines
