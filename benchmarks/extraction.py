"""What sharing buys canary extraction: all codes against a loop over codes, starts at once against one by one.

The model is `tagger` of params.yaml with 20 labels and 80 tags, its weights as drawn: times do not depend on them.
The codes are digits behind `my pin code is`. The loop reads one code at a time, from the same representations of
tokens; a slice of it is timed and multiplied. One torch thread.
"""

from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Row, row, run, seconds
from stages.common.settings import read_parameters
from stages.extract import exhaustive
from stages.extract.codes import codes
from stages.extract.gradient_search import search
from stages.extract.settings import GradientSearchSettings
from stages.extract.target import Target, target
from stages.fitting.secrets import BEGIN, INSIDE, LABEL, OUTSIDE, Secret
from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.fitted import FittedModel
from stages.models.settings import read_model

ROOT = Path(__file__).parents[1]
DIGITS = [str(digit) for digit in range(10)]
LENGTHS = (4, 6)
# Of the loop, as many codes as are timed.
SLICE = 200
STARTS, STEPS = 30, 50
REPEATS = 3


def cases() -> list[Row]:
    """Return a row per length and comparison."""
    torch.set_num_threads(1)
    targets = {length: _target(length) for length in LENGTHS}
    return [_exhaustive(targets[length]) for length in LENGTHS] + [_starts(targets[length]) for length in LENGTHS]


def _target(length: int) -> Target:
    model = read_model(read_parameters(ROOT / "params.yaml"), "tagger")
    labels = [LABEL, *(f"label-{number}" for number in range(19))]
    tags = [OUTSIDE, BEGIN, INSIDE, *(f"B-{number}" for number in range(77))]
    classifier = files.build(model, labels, tags, seed=0)
    secret = Secret("my pin code is {}", DIGITS, [0] * length, False, {})
    return target(FittedModel(classifier, model, Vocabulary(labels, tags), Path()), secret, label_knowledge=True)


def _exhaustive(attacked: Target) -> Row:
    number = len(DIGITS) ** attacked.unknown
    some = codes(torch.arange(0, number, number // SLICE), attacked.unknown, len(DIGITS))

    def loop() -> None:
        with torch.no_grad():
            for code in some:
                attacked.discrete(code[None])

    ours = partial(exhaustive.all_losses, attacked)
    loop()
    times = [(seconds(ours), seconds(loop) * number / len(some)) for _ in range(REPEATS)]
    return row(f"all {number:,} codes of {attacked.unknown} digits", f"a loop, from {len(some)}", times, 1 / 20)


def _starts(attacked: Target) -> Row:
    # Fewer steps than the search waits for an answer to move: all take as many.
    settings = GradientSearchSettings(steps=STEPS)
    shape = (STARTS, attacked.unknown, len(DIGITS))
    starts = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def together() -> None:
        search(attacked, starts, settings, seed=0)

    def apart() -> None:
        for start in starts:
            search(attacked, start[None], settings, seed=0)

    together()
    times = [(seconds(together), seconds(apart)) for _ in range(REPEATS)]
    case = f"{STARTS} starts of {STEPS} steps, {attacked.unknown} digits"
    return row(case, "one after the other", times, 1 / 5)


if __name__ == "__main__":
    run("extraction", __doc__ or "", cases)
