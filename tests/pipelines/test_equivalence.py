"""`assay run` leaves what serial `dvc repro` leaves, in random graphs under random edits.

A case is a number: `pytest tests/pipelines/test_equivalence.py -k 'graph[17]'` repeats the one that failed.
More of them: `EQUIVALENCE_CASES=200 pytest tests/pipelines/test_equivalence.py`; others than the first:
`EQUIVALENCE_FIRST=1000`.
"""

import contextlib
import copy
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from dvc.repo import Repo

from tests.pipelines.comparison import compare
from tests.pipelines.random_graphs import (
    Model,
    Stage,
    edit,
    new_stage,
    outputs,
    random_model,
    random_options,
    stage_outputs,
    write,
)

CASES = int(os.environ.get("EQUIVALENCE_CASES", "12"))
FIRST = int(os.environ.get("EQUIVALENCE_FIRST", "0"))


@pytest.mark.parametrize("case", range(FIRST, FIRST + CASES))
def test_random_graph(case: int, copies: tuple[Path, Path]) -> None:
    random = Random(case)
    model = random_model(random)
    history: list[Model] = []
    for root in copies:
        with (root / ".dvc/config").open("a") as config:
            config.write(model["config"])
        (root / ".gitignore").write_text(model["ignored"])
        write(model, root)
        with contextlib.chdir(root), Repo() as repo:
            repo.add(model["added"])
    for turn in range(random.randint(2, 4)):
        if turn:
            for _ in range(random.choice([1, 1, 2, 3])):
                edit(random, model, history, copies)
        history.append(copy.deepcopy(model))
        for root in copies:
            write(model, root)
        compare(*copies, random_options(random, model), f"case {case}, run {turn}")
        # Each goes on with what the other left.
        copies = copies[::-1] if random.random() < 0.2 else copies


@pytest.mark.parametrize("shape", ["chain", "fan", "diamond", "matrix", "folders"])
def test_shape(shape: str, copies: tuple[Path, Path]) -> None:
    model = SHAPES[shape]()
    for turn in range(3):
        for root in copies:
            write(model, root)
        compare(*copies, {}, f"{shape}, run {turn}")
        model["sources"]["source0"] = f"edit {turn}\n"
        model["params"]["p0"] = f"{turn}.0e-5"
    for root in copies:
        assert all((root / path).is_file() for path in outputs(model))


def of_stages(*stages: Stage) -> Model:
    sources = {f"source{number}": f"{number}\n" for number in range(2)}
    params = {"p0": "1.0e-5", "p1": "1", "p2": "[1, 2.5e-3]", "p3": "{deep: {rate: 1.0e-5}}"}
    return {"sources": sources, "params": params, "settings": {}, "stages": list(stages)}


def chain() -> Model:
    return of_stages(
        new_stage(0, deps=["source0"]),
        *(new_stage(number, deps=[f"out{number - 1}"], params=["p0"]) for number in range(1, 6)),
    )


def fan() -> Model:
    # The first of those in the middle end last.
    middle = [new_stage(number, deps=["out0"], sleep=0.3 / number, params=["p3", "p2"]) for number in range(1, 6)]
    return of_stages(
        new_stage(0, deps=["source0"]), *middle, new_stage(6, deps=[f"out{number}" for number in range(1, 6)])
    )


def diamond() -> Model:
    return of_stages(
        new_stage(0, deps=["source0", "source1"]),
        new_stage(1, deps=["out0"], sleep=0.1, params=["p0"]),
        new_stage(2, deps=["out0"], params=["p0"]),
        new_stage(3, deps=["out1", "out2"]),
    )


def matrix() -> Model:
    group = {"matrix": {"a": list("abcde"), "b": [1, 2.5, "x", 1e-5]}}
    cells = new_stage(1, deps=["out0"], params=["p0", "p2", "p3"], group=group)
    return of_stages(new_stage(0, deps=["source0"]), cells, new_stage(2, deps=stage_outputs(cells)))


def folders() -> Model:
    return of_stages(
        new_stage(0, deps=["source0"], file="one/dvc.yaml", params=["p3"]),
        new_stage(1, deps=["source0"], file="two/deep/dvc.yaml", params=["p3"], sleep=0.1),
        new_stage(2, deps=["out0", "out1"]),
        new_stage(3, deps=["out2"], file="one/dvc.yaml"),
        new_stage(4, deps=["out3", "out1"], wdir="two"),
    )


SHAPES: dict[str, Callable[[], Model]] = {
    "chain": chain,
    "fan": fan,
    "diamond": diamond,
    "matrix": matrix,
    "folders": folders,
}
