"""What every benchmark shares: interleaved repeats, medians, the table, the JSON file."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One comparison; `ratio` is the median of ours over the peer's, pair by pair, `target` the largest allowed."""

    case: str
    metric: str
    ours: float
    peer: str
    peer_value: float
    ratio: float
    target: float
    holds: bool
    spread: float
    repeats: int


def compare(
    case: str, ours: Callable[[], object], peer_name: str, peer: Callable[[], object], target: float, warm_ups: int = 1
) -> Row:
    """Time both sides in turn, after warm-ups, and return the row of their medians in seconds."""
    for _ in range(warm_ups):
        ours()
        peer()
    return row(case, peer_name, [(seconds(ours), seconds(peer)) for _ in range(REPEATS)], target)


def row(case: str, peer_name: str, times: Sequence[tuple[float, float]], target: float, metric: str = "seconds") -> Row:
    """Return the row of the medians of (ours, peer), measured in turn.

    The ratio is that of pairs, since the speed of a machine that others share drifts from one to the next.
    """
    mine, theirs = zip(*times, strict=True)
    value, peer_value = statistics.median(mine), statistics.median(theirs)
    ratio = statistics.median(ours / peer for ours, peer in times)
    spread = max(max(mine) / min(mine), max(theirs) / min(theirs))
    return Row(case, metric, value, peer_name, peer_value, ratio, target, ratio <= target, spread, len(times))


def process(command: Sequence[str], cwd: Path) -> Callable[[], object]:
    """Return a call that runs a command to its end; CalledProcessError with its output if it fails."""
    return lambda: subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)


def run(name: str, description: str, cases: Callable[[], Sequence[Row]]) -> None:
    """Run a benchmark as a command: print its table and, with --json, write its file."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    try:
        rows = cases()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed:\n{error.stderr or error.stdout}")
    _print(name, rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": name, "machine": machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def peak_memory() -> float:
    """Return the most memory that this process has had, in MiB."""
    # Not ru_maxrss, which a child inherits from its parent.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def machine() -> dict[str, object]:
    """Return what the numbers were measured on."""
    packages = {name: version(name) for name in ("assay", "datasets", "dvc", "numpy", "torch")}
    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "packages": packages,
    }


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _print(name: str, rows: Sequence[Row]) -> None:
    table = Table(title=f"{name}: medians of repeats, ratio = ours / peer in each repeat, smaller is better")
    for column in ("case", "metric", "ours", "peer", "peer's", "ratio", "target", "holds", "spread", "repeats"):
        table.add_column(column)
    for row in rows:
        numbers = (f"{row.ours:.3f}", row.peer, f"{row.peer_value:.3f}", f"{row.ratio:.2f}", f"{row.target:.2f}")
        table.add_row(
            row.case, row.metric, *numbers, "yes" if row.holds else "no", f"{row.spread:.2f}", str(row.repeats)
        )
    Console().print(table)
