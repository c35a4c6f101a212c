"""An LSTM written out, so that the per-example gradients of its weights are known.

The gradient of a recurrent weight is, as that of any matrix, a sum over positions of outer products: of what goes in at
each position (the input, or the state before it) and the gradient of the gates there. torch's own LSTM does not give
the latter away; this one does, in a loop over positions as in any LSTM (Hochreiter and Schmidhuber 1997, with the gates
in torch's order: input, forget, cell, output).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from stages.privacy.layers import Forward, Recorder, applied
from stages.privacy.uses import Formed, Matrix, in_full

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
        if not isinstance(inputs, PackedSequence):
            given = inputs if layer.batch_first else inputs.transpose(0, 1)
            outputs, last = _run(layer, given, None, None, recorder)
            return (outputs if layer.batch_first else outputs.transpose(0, 1)), last
        given, lengths = pad_packed_sequence(inputs, batch_first=True)
        order = inputs.sorted_indices
        outputs, last = _run(layer, given, lengths, order, recorder)
        return pack_padded_sequence(outputs, lengths, batch_first=True, enforce_sorted=order is None), last

    return forward


def _run(
    layer: nn.LSTM, values: Tensor, lengths: Tensor | None, order: Tensor | None, recorder: Recorder
) -> tuple[Tensor, State]:
    """Return the outputs (n, positions, directions x hidden) and the last states (layers x directions, n, hidden).

    Args:
        layer: The LSTM.
        values: (n, positions, d).
        lengths: (n,) of the texts, None if all are as long as the batch.
        order: (n,) rows, longest text first, if they do not come so.
        recorder: Is given the uses in the order of `values`.
    """
    length = values.shape[1]
    if torch.is_autocast_enabled(values.device.type):
        values = values.to(torch.get_autocast_dtype(values.device.type))
    back = None
    if order is not None and lengths is not None:
        back = torch.argsort(order)
        values, lengths = values[order], lengths[order.to(lengths.device)]
    ends = torch.full((len(values),), length) if lengths is None else lengths
    ends = ends.to(values.device)
    positions = torch.arange(length, device=values.device)
    # Each text backwards, from its own end; padding stays where it is.
    backwards = torch.where(positions < ends[:, None], ends[:, None] - 1 - positions, positions)
    # How many texts are that long: packed ones come longest first, and are done with when they end.
    active = [len(values)] * length if lengths is None else (positions[:, None] < ends).sum(1).tolist()
    last: list[State] = []
    for number in range(layer.num_layers):
        if number and layer.dropout and layer.training:
            values = functional.dropout(values, layer.dropout)
        sides = []
        for way in ("", "_reverse") if layer.bidirectional else ("",):
            given = _reordered(values, backwards) if way else values
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [getattr(layer, f"{name}_l{number}{way}", None) for name in names]
            states, cells = applied(_Direction, given, *weights, active, back, recorder)
            rows = torch.arange(len(values), device=values.device)
            last.append((states[rows, ends - 1], cells[rows, ends - 1]))
            sides.append(_reordered(states, backwards) if way else states)
        values = sides[0] if len(sides) == 1 else torch.cat(sides, dim=2)
    hidden, cell = (torch.stack(each) for each in zip(*last, strict=True))
    if back is None:
        return values, (hidden, cell)
    return values[back], (hidden[:, back], cell[:, back])


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(1, order[..., None].expand_as(values))


class _Direction(torch.autograd.Function):
    """One layer in one direction: inputs (n, positions, d) to states and cells (n, positions, hidden) each."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        recurrent: Tensor,
        bias: Tensor | None,
        recurrent_bias: Tensor | None,
        active: list[int],
        back: Tensor | None,
        recorder: Recorder,
    ) -> State:
        n, length, _ = inputs.shape
        hidden = recurrent.shape[1]
        kind = inputs.dtype  # under autocast not that of the weights
        both = None if bias is None or recurrent_bias is None else (bias + recurrent_bias).to(kind)
        gates = functional.linear(inputs, weight.to(kind), both)
        transition = recurrent.T.to(kind)
        # At position 0 of both: the zeros that it starts from.
        states, cells = (inputs.new_zeros(n, length + 1, hidden) for _ in range(2))
        for at, rows in enumerate(active):
            gate = torch.addmm(gates[:rows, at], states[:rows, at], transition)
            gate[:, : 2 * hidden].sigmoid_()
            gate[:, 2 * hidden : 3 * hidden].tanh_()
            gate[:, 3 * hidden :].sigmoid_()
            gates[:rows, at] = gate
            entered, kept, candidate, shown = gate.chunk(4, dim=1)
            cell = torch.addcmul(entered * candidate, kept, cells[:rows, at])
            cells[:rows, at + 1] = cell
            states[:rows, at + 1] = cell.tanh_().mul_(shown)
        context.save_for_backward(inputs, weight, recurrent, bias, recurrent_bias, gates, states, cells)
        context.active, context.back, context.recorder = active, back, recorder
        context.set_materialize_grads(False)
        return states[:, 1:].clone(), cells[:, 1:].clone()

    @staticmethod
    def backward(context: Any, of_states: Tensor | None, of_cells: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, weight, recurrent, bias, recurrent_bias, gates, states, cells = context.saved_tensors
        hidden, kind = recurrent.shape[1], inputs.dtype
        transition = recurrent.to(kind)
        gradients = torch.zeros_like(gates)
        state, cell = (inputs.new_zeros(len(inputs), hidden) for _ in range(2))
        for at, rows in reversed(list(enumerate(context.active))):
            entered, kept, candidate, shown = gates[:rows, at].chunk(4, dim=1)
            above = state[:rows] if of_states is None else state[:rows] + of_states[:rows, at]
            inner = cell[:rows] if of_cells is None else cell[:rows] + of_cells[:rows, at]
            squashed = cells[:rows, at + 1].tanh()
            inner = torch.addcmul(inner, above * shown, 1 - squashed.square())
            gradient = gradients[:rows, at]
            gradient[:, :hidden] = inner * candidate * entered * (1 - entered)
            gradient[:, hidden : 2 * hidden] = inner * cells[:rows, at] * kept * (1 - kept)
            gradient[:, 2 * hidden : 3 * hidden] = inner * entered * (1 - candidate.square())
            gradient[:, 3 * hidden :] = above * squashed * shown * (1 - shown)
            state[:rows] = gradient @ transition
            cell[:rows] = inner * kept
        # As the other layers have them: an example is clipped by the norm of all its gradients.
        rows = slice(None) if context.back is None else context.back
        by_example = gradients[rows]
        if weight.requires_grad:
            context.recorder.record(weight, Matrix(inputs[rows], by_example))
        if recurrent.requires_grad:
            context.recorder.record(recurrent, Matrix(states[rows, :-1], by_example))
        for each in (bias, recurrent_bias):
            if each is not None and each.requires_grad:
                context.recorder.record(each, Formed(in_full(by_example).sum(1)))
        below = gradients @ weight.to(kind) if context.needs_input_grad[0] else None
        return below, None, None, None, None, None, None, None
