"""A client's update as integers, whose sum modulo 2^32 is that of all clients.

Values are rounded to the nearest integer: each is off by at most half a step, nothing is drawn, and what did not move
stays 0. What is smaller than half a step is lost.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.common.errors import SettingError
from stages.federate.settings import SecureAggregation


class Quantised(NamedTuple):
    """An update of P values.

    Attributes:
        words: (P,) integers modulo 2^32.
        clipped: How many of the values were beyond the range.
    """

    words: NDArray[np.uint32]
    clipped: int


def quantise(values: NDArray[np.float64], settings: SecureAggregation) -> Quantised:
    """Return (P,) values as integers of `settings.bits` bits.

    Raises:
        SettingError: A value is not finite.
    """
    if not np.isfinite(values).all():
        problem = "a client's update is not finite, which no integer stands for"
        raise SettingError("learning_rate", problem, "give a smaller one, or leave out secure_aggregation")
    clipped = int((np.abs(values) > settings.clip).sum())
    integers = np.rint(np.clip(values, -settings.clip, settings.clip) / settings.step)
    return Quantised(integers.astype(np.int32).view(np.uint32), clipped)


def restored(words: NDArray[np.uint32], settings: SecureAggregation) -> NDArray[np.float64]:
    """Return the (P,) sum of values whose integers add up to `words` modulo 2^32."""
    return words.view(np.int32).astype(np.float64) * settings.step


def norm_before_rounding(norm: float, settings: SecureAggregation, size: int) -> float:
    """Return what the norm of `size` values may be, such that it is at most `norm` when they have been rounded.

    Raises:
        SettingError: Rounding alone may give a norm as large.
    """
    added = settings.step / 2 * sqrt(size)
    if added >= norm:
        problem = f"rounding {size} values to {settings.bits} bits may add {added:.3g} to a norm clipped to {norm:.3g}"
        raise SettingError("secure_aggregation.bits", problem, "give more bits, or a smaller `clip`")
    return norm - added
