"""What a comparison of two states costs: `assay diff`, with its tests and reasons, against `dvc metrics diff`."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from benchmarks.harness import REPEATS, Row, process, row, run, seconds
from stages.common import measurements
from stages.common.cells import Place
from stages.common.measurements import About, Measurement

BIN = Path(sys.executable).parent
DVC, ASSAY = str(BIN / "dvc"), str(BIN / "assay")
CELLS = (20, 200)
METRICS, SEEDS = 20, 3
LIMIT_SECONDS = 3.0


def cases() -> list[Row]:
    """Return every row: at each size, all metrics of all cells differ."""
    rows = []
    for count in CELLS:
        case = f"{count} cells, {METRICS} metrics, all differ"
        with _repository(count) as root:
            ours = process([ASSAY, "diff", "--format", "json"], root)
            peer = process([DVC, "metrics", "diff", "--json", "HEAD"], root)
            ours()
            peer()
            times = [(seconds(ours), seconds(peer)) for _ in range(REPEATS)]
        rows.append(row(case, "dvc metrics diff", times, 1.0))
        rows.append(row(case, "limit", [(mine, LIMIT_SECONDS) for mine, _ in times], 1.0))
    return rows


@contextmanager
def _repository(count: int) -> Iterator[Path]:
    """Make a repository with results, committed, and other results in its working tree."""
    cells = [f"cell-{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        study = {"dataset": "d", "seeds": list(range(SEEDS)), "train": {"grid": {"variant": cells}}}
        _dump(root / "params.yaml", {"profile": "quick", "toy": study, "report": {"studies": ["toy"]}})
        for command in (["git", "init", "--quiet"], [DVC, "init", "--quiet"]):
            subprocess.run(command, cwd=root, check=True)
        places = [Place("toy", "train", cell) for cell in cells]
        _dump(root / "dvc.yaml", {"metrics": [str(place.metrics) for place in places]})
        for state in range(2):
            for number, place in enumerate(places):
                _measure(root, place, seed=[state, number])
            _dump(
                root / "dvc.lock", {"schema": "2.0", "stages": {_stage(place): _made(place, state) for place in places}}
            )
            if state == 0:
                author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
                subprocess.run(["git", "add", "--all"], cwd=root, check=True)
                subprocess.run(["git", *author, "commit", "--quiet", "--message", "before"], cwd=root, check=True)
        yield root


def _measure(root: Path, place: Place, seed: list[int]) -> None:
    generator = np.random.default_rng(seed)
    names = ["test/accuracy", *(f"test/true_positive_rate/group {group}" for group in range(1, METRICS))]
    by_seed = {each: {name: Measurement(float(generator.random())) for name in names} for each in range(SEEDS)}
    about = About(place.study, place.cell, place.verb, "model", place.command, "ab" * 32)
    measurements.write(root / place.metrics, about, by_seed)


def _stage(place: Place) -> str:
    return f"train-toy@{place.cell}"


def _made(place: Place, state: int) -> dict[str, object]:
    deps = [{"path": "stages/train", "hash": "md5", "md5": f"{state:032x}"}]
    outs = [{"path": str(place.metrics), "hash": "md5", "md5": f"{state:032x}"}]
    return {"cmd": place.command, "deps": deps, "params": {"params.yaml": {"toy.seeds": SEEDS}}, "outs": outs}


def _dump(path: Path, content: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(content, file)


if __name__ == "__main__":
    run("diff", __doc__ or "", cases)
