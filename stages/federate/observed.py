"""What is measured of devices and of periods, beside a model's utility."""

import numpy as np
from numpy.typing import NDArray

from stages.common.measurements import Measurement
from stages.common.partitions import HeldOut
from stages.common.statistics import auc
from stages.federate.rules import heavy_from
from stages.fitting.cell import Data
from stages.models.text_model import TextModel

Measured = dict[str, Measurement]


def by_device(model: TextModel, data: Data, held: HeldOut, counts: dict[str, int], heavy: float, seed: int) -> Measured:
    """Return the utility on the test examples of heavy devices, of light ones, and of those with no training example.

    Args:
        model: The fitted one.
        data: Of the seed.
        held: Who holds the test examples.
        counts: Training examples of each device.
        heavy: See `Devices`.
        seed: Of bootstraps.
    """
    least = heavy_from(np.array(list(counts.values()), dtype=np.int64), heavy)
    own = np.array([counts.get(name, 0) for name in held.devices], dtype=np.int64)
    groups = {"heavy devices": own >= least, "light devices": (own > 0) & (own < least), "new devices": own == 0}
    return {
        f"{name}/{group}": value
        for group, chosen in groups.items()
        for name, value in _utility(model, data, np.flatnonzero(chosen), seed).items()
    }


def activity(drawn: NDArray[np.int64], counts: NDArray[np.int64], heavy: float) -> Measured:
    """Return how well a device's draws tell whether it is heavy: who sees cohorts sees activity.

    Args:
        drawn: (K,) how often each device was drawn.
        counts: (K,) training examples of each.
        heavy: See `Devices`.
    """
    truth = counts >= heavy_from(counts, heavy)
    if truth.all():
        return {}
    return {"train/activity_auc": auc(drawn[truth], drawn[~truth])}


class Periods:
    """The utility on each period's test examples, at its own end and at that of all.

    Args:
        data: Of the seed.
        held: When the test examples are from.
        count: Number of periods.
        seed: Of bootstraps.
    """

    def __init__(self, data: Data, held: HeldOut, count: int, seed: int) -> None:
        self._data, self._seed = data, seed
        self._rows = [np.flatnonzero(held.periods == period) for period in range(count)]
        self._learned: list[Measured] = []

    def end(self, model: TextModel) -> None:
        """Measure the model at the end of the next period."""
        self._learned.append(_utility(model, self._data, self._rows[len(self._learned)], self._seed))

    def measured(self, model: TextModel) -> Measured:
        """Return both, and by how much the model has become better on earlier periods since: backward transfer.

        That is the mean over all periods but the last (Lopez-Paz and Ranzato 2017, section 2).
        """
        found: Measured = {}
        learned_of: dict[str, list[Measurement]] = {}
        gained: dict[str, list[Measurement]] = {}
        for period, learned in enumerate(self._learned):
            now = _utility(model, self._data, self._rows[period], self._seed)
            for name, value in learned.items():
                found |= {f"{name}_when_learned/period {period + 1}": value, f"{name}/period {period + 1}": now[name]}
                learned_of.setdefault(name, []).append(value)
                if period < len(self._learned) - 1:
                    gained.setdefault(name, []).append(Measurement(now[name].value - value.value, value.n))
        found |= {f"{name}_when_learned": _mean(values) for name, values in learned_of.items()}
        return found | {f"{name}_backward_transfer": _mean(values) for name, values in gained.items()}


def _mean(measured: list[Measurement]) -> Measurement:
    """Return the mean of measurements, and the examples that they rest on together."""
    return Measurement(float(np.mean([each.value for each in measured])), sum(each.n or 0 for each in measured))


def _utility(model: TextModel, data: Data, rows: NDArray[np.int64], seed: int) -> Measured:
    """Return the first measure of a model's utility on some of the test examples; none of none."""
    if not len(rows):
        return {}
    utility = model.utility(data.test[rows], data.vocabulary, "test", seed)
    name = next(iter(utility))
    return {name: utility[name]}
