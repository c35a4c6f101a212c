"""An LSTM written out, so that the per-example gradients of its weights are known.

The gradient of a recurrent weight is, as that of any matrix, a sum over positions of outer products: of what goes in at
each position (the input, or the state before it) and the gradient of the gates there. torch's own LSTM does not give
the latter away; this one does, in a loop over positions as in any LSTM (Hochreiter and Schmidhuber 1997, with the gates
in torch's order: input, forget, cell, output).

All is kept as torch packs texts: position after position, at each the texts that are that long, longest first. Padding
is nowhere computed.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from stages.privacy.layers import Forward, Recorder, applied
from stages.privacy.uses import Formed, Packed, PackedMatrix, Places, in_full

State = tuple[Tensor, Tensor]


def lstm(layer: nn.LSTM, recorder: Recorder) -> Forward:
    """Record nn.LSTM: any number of layers, one direction or both, padded or packed; it starts from zero.

    Raises:
        ValueError: It projects its state, or is given an initial state.
    """
    if layer.proj_size:
        raise ValueError("an LSTM with proj_size is not supported")

    def forward(inputs: Any, state: Any = None) -> tuple[Any, State]:
        if state is not None:
            raise ValueError("an LSTM that is given its initial state is not supported")
        if isinstance(inputs, PackedSequence):
            order, back = inputs.sorted_indices, inputs.unsorted_indices
            steps = _steps(inputs.batch_sizes.tolist(), order, inputs.data.device)
            outputs, (hidden, cell) = _run(layer, inputs.data, steps, recorder)
            last = (hidden, cell) if back is None else (hidden[:, back], cell[:, back])
            return PackedSequence(outputs, inputs.batch_sizes, order, back), last
        values = inputs.transpose(0, 1) if layer.batch_first else inputs
        length, n, _ = values.shape
        outputs, last = _run(layer, values.flatten(0, 1), _steps([n] * length, None, values.device), recorder)
        outputs = outputs.unflatten(0, (length, n))
        return (outputs.transpose(0, 1) if layer.batch_first else outputs), last

    return forward


@dataclass(frozen=True)
class _Steps:
    """Which rows of packed values belong to a position, and whose they are.

    Attributes:
        rows: Of each position; the first so many texts are that long.
        places: Where a row stands among the examples.
    """

    rows: list[slice]
    places: Places


def _steps(active: list[int], order: Tensor | None, device: torch.device) -> _Steps:
    """Lay out texts of which `active` are so long at each position, and whose examples are `order` (as they come)."""
    ends = list(accumulate(active))
    number = torch.arange(active[0], device=device) if order is None else order
    examples = torch.cat([number[:rows] for rows in active])
    positions = torch.repeat_interleave(torch.tensor(active, device=device))
    rows = [slice(end - size, end) for end, size in zip(ends, active, strict=True)]
    return _Steps(rows, Places(examples, positions, (active[0], len(active))))


def _run(layer: nn.LSTM, values: Tensor, steps: _Steps, recorder: Recorder) -> tuple[Tensor, State]:
    """Return the outputs (rows, directions x hidden) and the last states (layers x directions, n, hidden)."""
    if torch.is_autocast_enabled(values.device.type):
        values = values.to(torch.get_autocast_dtype(values.device.type))
    last: list[State] = []
    for number in range(layer.num_layers):
        if number and layer.dropout and layer.training:
            values = functional.dropout(values, layer.dropout)
        sides = []
        for way in ("", "_reverse") if layer.bidirectional else ("",):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [getattr(layer, f"{name}_l{number}{way}", None) for name in names]
            states, hidden, cell = applied(_Direction, values, *weights, steps, bool(way), recorder)
            last.append((hidden, cell))
            sides.append(states)
        values = sides[0] if len(sides) == 1 else torch.cat(sides, dim=1)
    hidden, cell = (torch.stack(each) for each in zip(*last, strict=True))
    return values, (hidden, cell)


class _Direction(torch.autograd.Function):
    """One layer in one direction: packed inputs (rows, d) to states (rows, hidden), last state and cell (n, hidden)."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        recurrent: Tensor,
        bias: Tensor | None,
        recurrent_bias: Tensor | None,
        steps: _Steps,
        backwards: bool,
        recorder: Recorder,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = recurrent.shape[1]
        kind = inputs.dtype  # under autocast not that of the weights
        both = None if bias is None or recurrent_bias is None else (bias + recurrent_bias).to(kind)
        gates = functional.linear(inputs, weight.to(kind), both)
        transition = recurrent.T.to(kind)
        # Backwards, the texts that are not yet at their end have the zeros that they start from.
        state, cell = (inputs.new_zeros(steps.places.shape[0], hidden) for _ in range(2))
        states, squashed, states_before, cells_before = (inputs.new_empty(len(inputs), hidden) for _ in range(4))
        for rows in reversed(steps.rows) if backwards else steps.rows:
            gate, many = gates[rows], rows.stop - rows.start
            states_before[rows], cells_before[rows] = state[:many], cell[:many]
            gate.addmm_(state[:many], transition)
            gate[:, : 2 * hidden].sigmoid_()
            gate[:, 2 * hidden : 3 * hidden].tanh_()
            gate[:, 3 * hidden :].sigmoid_()
            entered, kept, candidate, shown = gate.chunk(4, dim=1)
            torch.addcmul(entered * candidate, kept, cells_before[rows], out=cell[:many])
            torch.tanh(cell[:many], out=squashed[rows])
            torch.mul(squashed[rows], shown, out=states[rows])
            state[:many] = states[rows]
        kept_for_later = (gates, squashed, states_before, cells_before)
        context.save_for_backward(inputs, weight, recurrent, bias, recurrent_bias, *kept_for_later)
        context.steps, context.backwards, context.recorder = steps, backwards, recorder
        context.set_materialize_grads(False)
        return states, state, cell

    @staticmethod
    def backward(
        context: Any, of_states: Tensor | None, of_state: Tensor | None, of_cell: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs, weight, recurrent, bias, recurrent_bias, gates, *kept_for_later = context.saved_tensors
        squashed, states_before, cells_before = kept_for_later
        kind, places = inputs.dtype, context.steps.places
        transition = recurrent.to(kind)
        entered, kept, candidate, shown = gates.chunk(4, dim=1)
        # What each gate's gradient is to that of the cell, and the last's to that of the state.
        gradients = torch.cat(
            [
                candidate * entered * (1 - entered),
                cells_before * kept * (1 - kept),
                entered * (1 - candidate.square()),
                squashed * shown * (1 - shown),
            ],
            dim=1,
        ).unflatten(1, (4, -1))
        through = shown * (1 - squashed.square())
        state, cell = (
            inputs.new_zeros(places.shape[0], recurrent.shape[1]) if of is None else of.clone()
            for of in (of_state, of_cell)
        )
        for rows in context.steps.rows if context.backwards else reversed(context.steps.rows):
            gradient, many = gradients[rows], rows.stop - rows.start
            above = state[:many] if of_states is None else state[:many].add_(of_states[rows])
            inner = torch.addcmul(cell[:many], above, through[rows])
            gradient[:, :3] *= inner[:, None]
            gradient[:, 3] *= above
            torch.mm(gradient.flatten(1), transition, out=state[:many])
            torch.mul(inner, kept[rows], out=cell[:many])
        of_gates = gradients.flatten(1)
        outputs = Packed(of_gates, places)
        if weight.requires_grad:
            context.recorder.record(weight, PackedMatrix(Packed(inputs, places), outputs))
        if recurrent.requires_grad:
            context.recorder.record(recurrent, PackedMatrix(Packed(states_before, places), outputs))
        if biases := [each for each in (bias, recurrent_bias) if each is not None and each.requires_grad]:
            by_example = Formed(places.summed(in_full(of_gates)))
            for each in biases:
                context.recorder.record(each, by_example)
        below = of_gates @ weight.to(kind) if context.needs_input_grad[0] else None
        return below, None, None, None, None, None, None, None
