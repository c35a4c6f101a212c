"""Training steps of an LSTM written out, against torch's own: both directions, packed texts, one thread."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Row, compare, run
from stages.models.recurrent import LSTM, packed

# Texts of a batch, their longest, width, hidden units, layers: of canary extraction, of private training, and larger.
SIZES = [(32, 28, 300, 50, 1), (64, 28, 256, 32, 1), (64, 20, 256, 256, 2), (64, 40, 256, 256, 2)]
# Not slower, at any size.
TARGET = 1.0
# At the smallest size one takes 20 milliseconds.
STEPS = 5


def cases() -> list[Row]:
    """Return a row per size."""
    torch.set_num_threads(1)
    return [_case(*size) for size in SIZES]


def _case(texts: int, longest: int, width: int, hidden: int, layers: int) -> Row:
    torch.manual_seed(0)
    # From a quarter of the longest up, as texts of a data set are.
    lengths = torch.linspace(longest, longest // 4, texts).long()
    values = torch.randn(texts, longest, width)
    steps = (_step(kind(width, hidden, layers, bidirectional=True), values, lengths) for kind in (LSTM, nn.LSTM))
    name = f"{texts} texts of up to {longest} words, {layers}x{hidden} on {width}"
    return compare(name, next(steps), "torch", next(steps), TARGET)


def _step(layer: nn.LSTM, values: Tensor, lengths: Tensor) -> Callable[[], None]:
    texts = packed(values, lengths)

    def steps() -> None:
        for _ in range(STEPS):
            layer.zero_grad()
            layer(texts)[0].data.square().sum().backward()

    return steps


if __name__ == "__main__":
    run("recurrent", __doc__ or "", cases)
