"""What parallel shadow models are worth: `python -m stages.shadow` on all cores, against the same on one."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.harness import Row, process, row, run, seconds

ROOT = Path(__file__).parents[1]
SHADOWS = (8, 32)
# A run takes a minute or two.
REPEATS = 3
TARGET = 1 / 1.7


def cases() -> list[Row]:
    """Return a row per number of shadow models: the BiLSTM of private training, two epochs each."""
    rows = []
    for count in SHADOWS:
        with _project(count) as root:
            command = [sys.executable, "-m", "stages.shadow", "--study", "private_training", "--cell", "none"]
            ours = process(command, root)
            peer = partial(_on_one_core, ours)
            times = [(seconds(ours), seconds(peer)) for _ in range(REPEATS)]
        rows.append(row(f"{count} shadow BiLSTMs, {REPEATS} repeats", "one after the other", times, TARGET))
    return rows


def _on_one_core(call: Callable[[], object]) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        call()
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def _project(shadows: int) -> Iterator[Path]:
    """Make a project of this one's data, with so many shadow models, each trained briefly."""
    if not (ROOT / "data/partitions/atis-halves").is_dir():
        sys.exit("error: data/partitions/atis-halves: no such folder; run `make repro STUDY=private_training` first")
    yaml = YAML()
    parameters = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    parameters["private_training"]["shadow"]["base"]["shadows"] = shadows
    parameters["private_training"]["train"]["variant"]["none"]["epochs"] = 2
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with (root / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(parameters, file)
        (root / "data").mkdir()
        for folder in ("prepared", "partitions"):
            (root / "data" / folder).symlink_to(ROOT / "data" / folder)
        yield root


if __name__ == "__main__":
    run("shadows", __doc__ or "", cases)
