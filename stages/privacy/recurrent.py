"""The per-example gradients of an LSTM.

The gradient of a recurrent weight is, as that of any matrix, a sum over positions of outer products: of what goes in at
each position (the input, or the state before it) and the gradient of the gates there. torch's own LSTM does not give
the latter away; the one written out in stages/models/recurrent.py does. Padding is nowhere computed.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stages.models.recurrent import Recorded, State, Steps, run, run_packed
from stages.privacy.layers import Forward, Recorder
from stages.privacy.uses import Formed, Packed, PackedMatrix, Places, in_full


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
            return run_packed(layer, inputs, partial(_record, recorder, inputs.sorted_indices))
        values = inputs.transpose(0, 1) if layer.batch_first else inputs
        length, n, _ = values.shape
        steps = Steps.of([n] * length, values.device)
        outputs, last = run(layer, values.flatten(0, 1), steps, partial(_record, recorder, None))
        outputs = outputs.unflatten(0, (length, n))
        return (outputs.transpose(0, 1) if layer.batch_first else outputs), last

    return forward


def _record(recorder: Recorder, order: Tensor | None, directions: Sequence[Recorded], steps: Steps) -> None:
    """Hand on what the gradients of a layer's weights are made of, in the order of the examples."""
    examples = steps.texts if order is None else order[steps.texts]
    places = Places(examples, steps.positions, (steps.active[0], len(steps.active)))
    inputs = Packed(directions[0].inputs, places)
    for direction in directions:
        weight, recurrent, *biases = direction.weights
        outputs = Packed(direction.of_gates, places)
        if weight.requires_grad:
            recorder.record(weight, PackedMatrix(inputs, outputs))
        if recurrent.requires_grad:
            recorder.record(recurrent, PackedMatrix(Packed(direction.states, places), outputs))
        if trained := [bias for bias in biases if bias is not None and bias.requires_grad]:
            by_example = Formed(places.summed(in_full(direction.of_gates)))
            for bias in trained:
                recorder.record(bias, by_example)
