"""The losses of all codes under one bidirectional LSTM layer, without reading each code whole.

Forward states depend on nothing but the words before, backward states on the words after. Codes that begin alike share
the first, codes that end alike the second, and both are computed once; nor is a candidate projected more than once.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.extract.codes import codes
from stages.extract.target import Target
from stages.models.classifier import TextClassifier

# Codes whose states are held at once; more would not stay in a processor's cache.
CHUNK = 2048
# Hidden state and cells: (codes, hidden) each.
State = tuple[Tensor, Tensor]
# A state, and what was put out at each token on the way to it.
Read = tuple[State, list[Tensor]]


def knows(model: TextClassifier) -> bool:
    """Return whether the model's recurrence is of the kind that this module computes."""
    layer = model.recurrent
    return isinstance(layer, nn.LSTM) and layer.num_layers == 1 and layer.bidirectional and layer.proj_size == 0


@torch.no_grad()
def all_losses(target: Target) -> Tensor:
    """Return (V^n,) losses of all codes, the first word varying slowest; `knows` has said yes."""
    n, alphabet, length = target.unknown, target.alphabet, len(target.context)
    # A chunk has all codes with the same leading words.
    trailing = n
    while alphabet**trailing > CHUNK:
        trailing -= 1
    leading, size = n - trailing, alphabet**trailing
    forward, backward, heads = _Direction(target, ""), _Direction(target, "_reverse"), _without_recurrence(target.model)
    before, after = list(range(int(target.places.min()))), list(range(int(target.places.max()) + 1, length))
    states = _States(target.context.new_empty((size, length, 2 * forward.hidden)), forward.hidden)
    lengths = torch.full((size,), length, device=target.context.device)
    # The same in all chunks: what precedes the first word, and what follows the leading ones from behind.
    start = states.read(forward, before, forward.fixed(forward.zero(), before))
    end = states.read(backward, after[::-1], backward.fixed(backward.zero(), after[::-1]))
    for word in range(n - 1, leading - 1, -1):
        end = states.read(backward, _positions(target, [word])[::-1], backward.every(end, word))
    found = []
    for code in codes(torch.arange(alphabet**leading), leading, alphabet).tolist():
        words = list(enumerate(code))
        positions = _positions(target, range(leading))
        state = states.read(forward, positions, forward.chosen(start, words))
        for word in range(leading, n):
            state = states.read(forward, _positions(target, [word]), forward.every(state, word))
        states.read(forward, after, forward.fixed(state, after))
        state = states.read(backward, positions[::-1], backward.chosen(end, words[::-1]))
        states.read(backward, before[::-1], backward.fixed(state, before[::-1]))
        found.append(target.score_losses(heads.score(states.values, lengths)))
    return torch.cat(found)


class _Direction:
    """One direction of the layer, with what it makes of every token before it looks at its state."""

    def __init__(self, target: Target, suffix: str) -> None:
        layer = target.model.recurrent
        inputs, bias, other, self._weight = (
            getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "bias_ih", "bias_hh", "weight_hh")
        )
        self.hidden: int = self._weight.shape[1]
        self.reverse = bool(suffix)
        self._context = target.context @ inputs.T + bias + other
        # (n, V, pieces, 4 hidden), the pieces in the order in which they are read.
        candidates = target.candidates @ inputs.T + bias + other
        self._candidates = candidates.flip(2) if self.reverse else candidates

    def zero(self) -> State:
        """Return the state before anything is read."""
        zeros = self._weight.new_zeros((1, self.hidden))
        return zeros, zeros

    def fixed(self, state: State, positions: Sequence[int]) -> Read:
        """Read the text's own tokens at these positions."""
        return self._all(state, [self._context[position] for position in positions])

    def chosen(self, state: State, words: Sequence[tuple[int, int]]) -> Read:
        """Read these candidates: pairs of word and candidate."""
        return self._all(state, [piece for word, candidate in words for piece in self._candidates[word, candidate]])

    def every(self, state: State, word: int) -> Read:
        """Read every candidate at one word after every state; the words of a code vary the faster the later."""
        first, *others = self._candidates[word].unbind(1)
        old, new = len(state[0]), len(first)
        moved = state[0] @ self._weight.T
        # What is read backwards is read before the words that vary faster.
        if self.reverse:
            gates, cells = first[:, None] + moved, state[1].expand(new, -1, -1)
        else:
            gates, cells = moved[:, None] + first, state[1][:, None].expand(-1, new, -1)
        state = _step(gates.flatten(0, 1), cells.reshape(old * new, self.hidden))
        repeated = [piece.repeat_interleave(old, 0) if self.reverse else piece.repeat(old, 1) for piece in others]
        last, outputs = self._all(state, repeated)
        return last, [state[0], *outputs]

    def _all(self, state: State, projected: Sequence[Tensor]) -> Read:
        outputs = []
        for token in projected:
            state = _step(state[0] @ self._weight.T + token, state[1])
            outputs.append(state[0])
        return state, outputs


class _States:
    """The states of the layer for all codes of a chunk: (codes, length, 2 hidden)."""

    def __init__(self, values: Tensor, hidden: int) -> None:
        self.values, self._halves = values, values.split(hidden, dim=2)

    def read(self, direction: _Direction, positions: Sequence[int], read: Read) -> State:
        """Keep what a direction put out at positions, for fewer codes than there are; return its state."""
        state, outputs = read
        for position, output in zip(positions, outputs, strict=True):
            part = self._halves[direction.reverse][:, position]
            if direction.reverse:
                part.view(-1, *output.shape).copy_(output)
            else:
                part.view(len(output), -1, output.shape[1]).copy_(output[:, None])
        return state


def _step(gates: Tensor, cells: Tensor) -> State:
    """Return hidden state and cells after gates (n, 4 hidden) and cells (n, hidden), in the order of torch.nn.LSTM."""
    enter, forget, new, out = gates.chunk(4, dim=1)
    cells = forget.sigmoid() * cells + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cells.tanh(), cells


def _positions(target: Target, words: Sequence[int]) -> list[int]:
    return [int(place) for word in words for place in target.places[word]]


def _without_recurrence(model: TextClassifier) -> TextClassifier:
    """Return a view of the model that scores the states of its recurrent layer."""
    heads = copy.copy(model)
    heads._modules = dict(model._modules)
    heads.recurrent = None
    return heads
