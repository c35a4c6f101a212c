"""What a private step costs against an ordinary one, and against Opacus (hooks, ghost) and a loop over examples.

A step is forward, backward, clipping, noise and AdamW on a batch of 64; "clipping alone" leaves out noise and AdamW on
both sides. "One group" is eDP-SGD whose group is the whole batch. Frozen is nothing, dropout is off. One torch thread,
and two in rows that say so. All sides keep the memory that they free, as processes that train do here.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.harness import Row, compare, peak_memory, row, run
from stages.models.process import keep_freed_memory
from stages.privacy.clipping import ClippedGradients
from stages.privacy.noise import Noise

EXAMPLES, LABELS, VOCABULARY = 64, 20, 30_000
WIDTH, LAYERS, HEADS = 384, 6, 12
CLIPPING_NORM, NOISE = 1.0, 1.0
Step = Callable[[], object]


class Block(nn.Module):
    """A transformer layer, normalised after each part."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """Transform (n, length, WIDTH)."""
        parts = (part(states).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        states = self.first(states + self.out(attended))
        transformed: Tensor = self.second(states + self.narrow(functional.gelu(self.wide(states))))
        return transformed


class Transformer(nn.Module):
    """22.4 million parameters, of which 11.5 are the table of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(512, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.labels = nn.Linear(WIDTH, LABELS)

    def forward(self, ids: Tensor) -> Tensor:
        """Score (n, length) ids."""
        # Expanded: Opacus takes position ids given once for one example (its issue 841).
        positions = torch.arange(ids.shape[1]).expand_as(ids).contiguous()
        scores: Tensor = self.labels(self.blocks(self.norm(self.words(ids) + self.positions(positions))).mean(1))
        return scores


class Recurrent(nn.Module):
    """Two bidirectional layers of 256 over padded texts."""

    def __init__(self, lstm: Callable[..., nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm(256, 256, 2, batch_first=True, bidirectional=True)
        self.labels = nn.Linear(512, LABELS)

    def forward(self, values: Tensor) -> Tensor:
        """Score (n, length, 256) values of which a text has as many as its rank allows, longest first."""
        lengths = torch.linspace(values.shape[1], values.shape[1] // 4, len(values)).long()
        packed = pack_padded_sequence(values, lengths, batch_first=True)
        scores: Tensor = self.labels(pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0].mean(1))
        return scores


def transformer_step(side: str, length: int, whole: bool = True) -> Step:
    """Return a step of one side."""
    return _step(side, Transformer(), torch.randint(0, VOCABULARY, (EXAMPLES, length)), whole)


def recurrent_step(side: str, length: int, whole: bool = True) -> Step:
    """Return a step of one side."""
    return _step(side, Recurrent(), torch.randn(EXAMPLES, length, 256), whole)


def _step(side: str, model: nn.Module, inputs: Tensor, whole: bool) -> Step:
    torch.manual_seed(0)
    labels = torch.randint(0, LABELS, (EXAMPLES,))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if side in ("hooks", "ghost"):
        return _opacus(side, model, optimiser, inputs, labels)
    group = EXAMPLES if side == "one group" else 1
    clipped, noise = ClippedGradients(model, CLIPPING_NORM, group), Noise(0)
    sides: dict[str, Step] = {
        "ordinary": lambda: _ordinary(model, inputs, labels),
        "ours": lambda: _clip(clipped, model, inputs, labels),
        "one group": lambda: _clip(clipped, model, inputs, labels),
        "loop": lambda: _loop(model, inputs, labels),
    }

    def step() -> None:
        optimiser.zero_grad()
        sides[side]()
        if whole:
            if side != "ordinary":
                noise.add(clipped.parameters, NOISE * CLIPPING_NORM, EXAMPLES // group)
            optimiser.step()

    return step


def _ordinary(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    loss: Any = functional.cross_entropy(model(inputs), labels)
    loss.backward()


def _clip(clipped: ClippedGradients, model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    with clipped.recording(EXAMPLES):
        losses = functional.cross_entropy(model(inputs), labels, reduction="none")
    clipped.backward(losses)


def _loop(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    parameters = list(model.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for example in torch.arange(EXAMPLES).split(1):
        loss = functional.cross_entropy(model(inputs[example]), labels[example])
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for summed, gradient in zip(total, gradients, strict=True):
            summed.add_(gradient, alpha=min(1.0, CLIPPING_NORM / float(norm)))
    for parameter, summed in zip(parameters, total, strict=True):
        parameter.grad = summed


def _opacus(side: str, model: nn.Module, optimiser: Any, inputs: Tensor, labels: Tensor) -> Step:
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    settings = {"noise_multiplier": NOISE, "max_grad_norm": CLIPPING_NORM, "expected_batch_size": EXAMPLES}
    if side == "hooks":
        wrapped: Any = GradSampleModule(model)
        private: Any = DPOptimizer(optimiser, **settings)
        loss: Any = functional.cross_entropy
    else:
        wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIPPING_NORM, use_ghost_clipping=True)
        private = DPOptimizerFastGradientClipping(optimiser, **settings)
        loss = DPLossFastGradientClipping(wrapped, private, nn.CrossEntropyLoss())

    def step() -> None:
        private.zero_grad()
        loss(wrapped(inputs), labels).backward()
        private.step()

    return step


def cases() -> list[Row]:
    """Return every row."""
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = [
        _transformer("clipping alone", 16, "ordinary", 1.10, whole=False),
        _transformer("whole step", 16, "ordinary", 1.25),
        _transformer("whole step", 64, "ordinary", 1.20),
        _transformer("whole step", 128, "ordinary", 1.25),
        _transformer("one group, clipping alone", 16, "ordinary", 1.10, "one group", whole=False),
        _transformer("one group, whole step", 16, "ordinary", 1.10, "one group"),
        _transformer("one group, whole step", 64, "ordinary", 1.10, "one group"),
        _transformer("whole step", 16, "ghost", 0.75),
        _transformer("whole step", 64, "ghost", 0.75),
        _transformer("whole step", 16, "loop", 1.0),
        _transformer("whole step", 16, "hooks", 1.0),
        _recurrent("clipping alone", 20, 1.05, whole=False),
        _recurrent("whole step", 20, 1.15),
        _recurrent("whole step", 40, 1.15),
        _memory(128, "ordinary", 1.3),
        _memory(64, "ordinary", 1.3),
    ]
    torch.set_num_threads(2)
    rows.append(_transformer("whole step, 2 threads", 16, "ordinary", 1.25))
    return rows


def _transformer(case: str, length: int, peer: str, target: float, side: str = "ours", whole: bool = True) -> Row:
    name = f"transformer 6x{WIDTH}, {length} tokens: {case}"
    steps = (transformer_step(each, length, whole) for each in (side, peer))
    # Memory that is kept takes some steps to fit what they ask for.
    return compare(name, next(steps), peer, next(steps), target, warm_ups=3 if peer == "ordinary" else 1)


def _recurrent(case: str, length: int, target: float, whole: bool = True) -> Row:
    sides = (recurrent_step(side, length, whole) for side in ("ours", "ordinary"))
    return compare(f"BiLSTM 2x256, {length} tokens: {case}", next(sides), "ordinary", next(sides), target)


def _memory(length: int, peer: str, target: float) -> Row:
    name = f"transformer 6x{WIDTH}, {length} tokens: whole step"
    times = [(_peak("ours", length), _peak(peer, length)) for _ in range(3)]
    return row(name, peer, times, target, "MiB, peak above the loaded model")


def _peak(side: str, length: int) -> float:
    """Return by how much two steps raise the peak memory of a process of their own, in MiB."""
    command = [sys.executable, "-m", "benchmarks.private_step", "--peak", side, str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(side: str, length: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    step = transformer_step(side, length)
    before = peak_memory()
    step()
    step()
    print(peak_memory() - before)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        _print_peak(sys.argv[2], int(sys.argv[3]))
    else:
        run("private_step", __doc__ or "", cases)
