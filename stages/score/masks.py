"""How likely a masked language model finds tokens behind masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stages.models.encoders import padded_ids
from stages.models.masked import MaskedLanguageModel
from stages.score.tokens import check_length


class Hidden(NamedTuple):
    """A text whose masks are set, the place of one of them, and the token that is asked for there.

    Attributes:
        tokens: Of the text, between the marks of its ends.
        place: Of the mask.
        wanted: The token.
    """

    tokens: Sequence[int]
    place: int
    wanted: int


@torch.no_grad()
def log_probabilities_behind_masks(model: MaskedLanguageModel, hidden: Sequence[Hidden]) -> NDArray[np.float64]:
    """Return (n,) log-probabilities, in nats, of tokens behind masks.

    Args:
        model: In eval mode.
        hidden: n texts and what is asked of each.

    Raises:
        InputError: The model reads fewer tokens than a text has.
    """
    check_length(model, max((len(each.tokens) for each in hidden), default=0))
    found = np.empty(len(hidden))
    # Texts of like length together: the cost of a chunk is that of its longest.
    order = sorted(range(len(hidden)), key=lambda row: len(hidden[row].tokens))
    for start in range(0, len(order), model.chunk):
        rows = order[start : start + model.chunk]
        ids, lengths = (
            torch.from_numpy(each).to(model.device) for each in padded_ids([hidden[row].tokens for row in rows])
        )
        places = torch.tensor([[hidden[row].place] for row in rows], device=model.device)
        wanted = torch.tensor([[hidden[row].wanted] for row in rows], device=model.device)
        said = torch.log_softmax(model.logits(ids, lengths, places)[:, 0].double(), dim=1)
        found[rows] = said.gather(1, wanted)[:, 0].cpu().numpy()
    return found


def sums(values: NDArray[np.float64], cells: Sequence[tuple[int, int]], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the sums of values (n,) by their n cells (row, column) of a table of some shape."""
    found = np.zeros(shape)
    np.add.at(found, tuple(np.array(cells, dtype=np.int64).reshape(-1, 2).T), values)
    return found
