"""An LSTM written out, both directions at once: faster than torch's own on a CPU (benchmarks/recurrent.py).

As torch packs texts: position after position, at each the texts that are that long, longest first, so that padding is
nowhere computed. The backward direction reads each text turned round, and so takes its steps beside the forward one.
Gates are in torch's order: input, forget, cell, output (Hochreiter and Schmidhuber 1997).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

# Hidden states and cells, (layers x directions, n, hidden) each.
State = tuple[Tensor, Tensor]


class LSTM(nn.LSTM):
    """torch's LSTM over packed texts; it starts from zero.

    On a GPU, or with a projected state, it is torch's own. There is no second gradient.
    """

    def forward(self, inputs: Any, state: Any = None) -> tuple[Any, State]:
        """Return packed states (rows, directions x hidden) and the last state, as torch.nn.LSTM does."""
        written_out = isinstance(inputs, PackedSequence) and not inputs.data.is_cuda and not self.proj_size
        if state is not None or not written_out:
            found: tuple[Any, State] = super().forward(inputs, state)
            return found
        return run_packed(self, inputs)


def packed(values: Tensor, lengths: Tensor) -> PackedSequence:
    """Pack values (n, length, d) of texts; what torch's pack_padded_sequence does, in one lookup.

    Raises:
        ValueError: A text is empty.
    """
    inside, order, back = _laid_out(lengths, values.shape[1])
    if not bool(inside[0].all()):
        raise ValueError("a text to pack has at least one word")
    rows = _rows(inside, order)
    return PackedSequence(values.flatten(0, 1)[rows], inside.sum(dim=1).cpu(), order, back)


def padded(values: PackedSequence, lengths: Tensor, length: int) -> Tensor:
    """Return (n, length, d) values of texts of these lengths, zeros where they have ended: the inverse of `packed`."""
    inside, order, _ = _laid_out(lengths, length)
    empty = values.data.new_zeros(len(lengths) * length, values.data.shape[1])
    filled: Tensor = empty.index_copy(0, _rows(inside, order), values.data)
    return filled.view(len(lengths), length, -1)


def _laid_out(lengths: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (length, n) whether a text, longest first, is as long; their order, and where each stands in it."""
    order = torch.argsort(lengths, descending=True, stable=True)
    positions = torch.arange(length, device=lengths.device)
    return positions[:, None] < lengths[order], order, torch.argsort(order)


def _rows(inside: Tensor, order: Tensor) -> Tensor:
    positions, texts = inside.nonzero(as_tuple=True)
    return order[texts] * len(inside) + positions


@dataclass(frozen=True)
class Steps:
    """Which rows of packed values belong to a position.

    Attributes:
        active: How many texts are as long as each position: the first so many, longest first.
        texts: (rows,) place of each row's text among the texts, longest first.
        positions: (rows,) place of each row in its text.
        turned: (rows,) row that each has in the texts turned round.
        last: (n,) row of each text's last position.
    """

    active: list[int]
    texts: Tensor
    positions: Tensor
    turned: Tensor
    last: Tensor

    @classmethod
    def of(cls, active: Sequence[int], device: torch.device) -> "Steps":
        """Lay out texts of which so many are as long as each position."""
        sizes = torch.tensor(active, device=device)
        starts = sizes.cumsum(0) - sizes
        positions = torch.repeat_interleave(sizes)
        texts = torch.arange(len(positions), device=device) - starts[positions]
        lengths = torch.bincount(texts)
        turned = starts[lengths[texts] - 1 - positions] + texts
        return cls(list(active), texts, positions, turned, turned[: len(lengths)])

    def before(self, values: Tensor) -> Tensor:
        """Return values (rows, ...) one position earlier, zeros at the first."""
        n, sizes = self.active[0], torch.tensor(self.active, device=values.device)
        earlier = torch.arange(n, len(values), device=values.device) - sizes[self.positions[n:] - 1]
        return torch.cat([torch.zeros_like(values[:n]), values[earlier]])


@dataclass(frozen=True)
class Recorded:
    """What the gradients of one direction's weights are made of, in one pass over a layer.

    Attributes:
        weights: Of the inputs (4 hidden, d), of the state (4 hidden, hidden) and their biases, as far as there are any.
        inputs: (rows, d).
        states: (rows, hidden) what the state was before each of them was read.
        of_gates: (rows, 4 hidden) gradients of the gates.
    """

    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
    inputs: Tensor
    states: Tensor
    of_gates: Tensor


# Is handed what a layer's gradients are made of, by direction, and whose rows they are, so that they are not formed.
Record = Callable[[list[Recorded], Steps], None]


def run_packed(layer: nn.LSTM, inputs: PackedSequence, record: Record | None = None) -> tuple[PackedSequence, State]:
    """Return what an LSTM makes of packed texts that start from zero; see `run`."""
    steps = Steps.of(inputs.batch_sizes.tolist(), inputs.data.device)
    outputs, (hidden, cell) = run(layer, inputs.data, steps, record)
    if (back := inputs.unsorted_indices) is not None:
        hidden, cell = hidden[:, back], cell[:, back]
    return PackedSequence(outputs, inputs.batch_sizes, inputs.sorted_indices, back), (hidden, cell)


def run(layer: nn.LSTM, values: Tensor, steps: Steps, record: Record | None = None) -> tuple[Tensor, State]:
    """Return the outputs (rows, directions x hidden) and the last state.

    Args:
        layer: Any number of layers, one direction or both.
        values: (rows, d) packed inputs.
        steps: Of the rows.
        record: Takes what the weights' gradients are made of; without, they are formed.
    """
    if torch.is_autocast_enabled(values.device.type):
        values = values.to(torch.get_autocast_dtype(values.device.type))
    apply: Any = _Layer.apply
    last = []
    for number in range(layer.num_layers):
        if number and layer.dropout and layer.training:
            values = functional.dropout(values, layer.dropout)
        weights = [
            getattr(layer, f"{name}_l{number}{way}", None)
            for way in (("", "_reverse") if layer.bidirectional else ("",))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        values, *state = apply(values, steps, record, *weights)
        last.append(state)
    hidden, cell = (torch.cat(each) for each in zip(*last, strict=True))
    return values, (hidden, cell)


class _Layer(torch.autograd.Function):
    """One layer: packed inputs (rows, d) to states (rows, directions x hidden), last states and cells.

    The latter are (directions, n, hidden) of the texts, longest first.
    """

    @staticmethod
    def forward(
        context: Any, inputs: Tensor, steps: Steps, record: Record | None, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = inputs.dtype  # under autocast not that of the weights
        of_inputs, of_states, biases, state_biases = (weights[place::4] for place in range(4))
        matrix = torch.cat(of_inputs).to(kind)
        bias = None if biases[0] is None else (torch.cat(biases) + torch.cat(state_biases)).to(kind)
        gates = functional.linear(inputs, matrix, bias).unflatten(1, (len(of_inputs), -1))
        transitions = torch.stack(of_states).to(kind)
        states, cells, squashed = _read(_turn(gates, steps), transitions.transpose(1, 2), steps)
        context.save_for_backward(inputs, matrix, transitions, gates, states, cells, squashed, *weights)
        context.steps, context.record = steps, record
        context.set_materialize_grads(False)
        last, last_cells = (each[steps.last].transpose(0, 1) for each in (states, cells))
        return _turn(states.clone(), steps).flatten(1), last, last_cells

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, of_outputs: Tensor | None, of_state: Tensor | None, of_cell: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs, matrix, transitions, gates, states, cells, squashed, *weights = context.saved_tensors
        steps, ways = context.steps, states.shape[1]
        of_states = None if of_outputs is None else _turn(of_outputs.unflatten(1, (ways, -1)).clone(), steps)
        read = _gradients(gates, states, cells, squashed, transitions, steps, of_states, of_state, of_cell)
        of_gates, before = _turn(read, steps), _turn(steps.before(states), steps)
        below = of_gates.flatten(1) @ matrix if context.needs_input_grad[0] else None
        if context.record is not None:
            own = (tuple(weights[4 * way : 4 * way + 4]) for way in range(ways))
            made_of = [Recorded(of, inputs, before[:, way], of_gates[:, way]) for way, of in enumerate(own)]
            context.record(made_of, steps)
            return below, None, None, *[None] * len(weights)
        kind = weights[0].dtype
        of_matrix = (of_gates.flatten(1).T @ inputs).to(kind).chunk(ways)
        of_bias = [None] * ways if weights[2] is None else of_gates.flatten(1).sum(0).to(kind).chunk(ways)
        formed = [
            (of_matrix[way], (of_gates[:, way].T @ before[:, way]).to(kind), of_bias[way], of_bias[way])
            for way in range(ways)
        ]
        return below, None, None, *(gradient for each in formed for gradient in each)


def _turn(values: Tensor, steps: Steps) -> Tensor:
    """Turn the texts of the second direction of values (rows, directions, d) round, in place; return the values."""
    if values.shape[1] == 2:
        values[:, 1] = values[steps.turned, 1]
    return values


def _read(gates: Tensor, transitions: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, cells and the cells' tanh, each (rows, directions, hidden), and leave the gates squashed.

    Args:
        gates: (rows, directions, 4 hidden) what the inputs bring to them.
        transitions: (directions, hidden, 4 hidden).
        steps: Of the rows.
    """
    hidden, ways = transitions.shape[1], range(len(transitions))
    states, cells, squashed = (gates.new_empty(len(gates), len(transitions), hidden) for _ in range(3))
    # Views of all positions are made at once: of so small steps, making them is most.
    of_ways = [gates[:, way].split(steps.active) for way in ways]
    state_of_ways = [states[:, way].split(steps.active) for way in ways]
    by_position = zip(
        steps.active,
        gates[:, :, : 2 * hidden].split(steps.active),
        *(part.split(steps.active) for part in (*gates.chunk(4, dim=2), cells, squashed, states)),
        strict=True,
    )
    before = cells[:0]
    for position, (many, entered_kept, entered, kept, candidate, shown, cell, tanh, state) in enumerate(by_position):
        if position:
            for way in ways:
                of_ways[way][position].addmm_(state_of_ways[way][position - 1][:many], transitions[way])
        entered_kept.sigmoid_()
        candidate.tanh_()
        shown.sigmoid_()
        torch.mul(entered, candidate, out=cell)
        if position:
            cell.addcmul_(kept, before[:many])
        torch.tanh(cell, out=tanh)
        torch.mul(tanh, shown, out=state)
        before = cell
    return states, cells, squashed


def _gradients(
    gates: Tensor,
    states: Tensor,
    cells: Tensor,
    squashed: Tensor,
    transitions: Tensor,
    steps: Steps,
    of_states: Tensor | None,
    of_last: Tensor | None,
    of_last_cell: Tensor | None,
) -> Tensor:
    """Return (rows, directions, 4 hidden) gradients of the gates before they were squashed.

    Args:
        gates: As `_read` left them.
        states: What it returned, as are the next two.
        cells: (rows, directions, hidden).
        squashed: (rows, directions, hidden).
        transitions: (directions, 4 hidden, hidden).
        steps: Of the rows.
        of_states: (rows, directions, hidden) gradients of the states; all zero if None, as are the next two.
        of_last: (directions, n, hidden) of each text's last state.
        of_last_cell: (directions, n, hidden) of its last cell.
    """
    entered, kept, candidate, shown = gates.chunk(4, dim=2)
    # What each gate's gradient is to that of the cell, and the last's to that of the state.
    gradients = torch.cat(
        [
            candidate * entered * (1 - entered),
            steps.before(cells) * kept * (1 - kept),
            entered * (1 - candidate.square()),
            squashed * shown * (1 - shown),
        ],
        dim=2,
    ).unflatten(2, (4, -1))
    through = shown * (1 - squashed.square())
    state, cell = (
        states.new_zeros(steps.active[0], *states.shape[1:]) if of is None else of.transpose(0, 1).clone()
        for of in (of_last, of_last_cell)
    )
    of_ways = [gradients[:, way].flatten(1).split(steps.active) for way in range(len(transitions))]
    by_position = list(
        zip(
            steps.active,
            *(part.split(steps.active) for part in (gradients[:, :, :3], gradients[:, :, 3], through, kept)),
            of_states.split(steps.active) if of_states is not None else steps.active,
            strict=True,
        )
    )
    for position, (many, of_cell, of_shown, to_cell, forgotten, of_outputs) in reversed(list(enumerate(by_position))):
        above, inner = state[:many], cell[:many]
        if of_states is not None:
            above.add_(of_outputs)
        inner.addcmul_(above, to_cell)
        of_cell.mul_(inner[:, :, None])
        of_shown.mul_(above)
        if position:
            for way, of_way in enumerate(of_ways):
                torch.mm(of_way[position], transitions[way], out=above[:, way])
            inner.mul_(forgotten)
    found: Tensor = gradients.flatten(2)
    return found
