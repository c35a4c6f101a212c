"""What a measure that compares groups came to."""

from dataclasses import dataclass

import pandas as pd

from stages.common.measurements import Measurement


@dataclass(frozen=True)
class GroupFindings:
    """What a measure that compares groups came to.

    Attributes:
        examples: The values example by example.
        measured: `test/<metric>` or `test/<metric>/<group>` -> measurement.
        left_out: Each group that is not measured -> why, with its counts.
    """

    examples: pd.DataFrame
    measured: dict[str, Measurement]
    left_out: dict[str, str]
