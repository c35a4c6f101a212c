"""What an update says without any search: the tokens of a batch, and the order of a text that is alone in it.

A token that stands in no text of the batch moves no loss, so its row of the gradient is zero. Noise hides that: rows
are then told by their norm, by an attacker who knows how many tokens there are.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.invert.client import Update


def bag(seen: Update, around: Tensor, size: int | None) -> Tensor:
    """Return the ids of the tokens whose rows of the gradient give them away, in order.

    Args:
        seen: The update.
        around: Marks around every text, which are known; so is 0, of padding.
        size: How many tokens to return, those of the largest rows; None for all whose row is not zero.
    """
    norms = seen.table.norm(dim=1)
    norms[around.to(norms.device)] = 0
    norms[0] = 0
    found = torch.nonzero(norms)[:, 0] if size is None else norms.topk(size).indices
    return found.sort().values


def ordered(seen: Update, candidates: Tensor, length: int) -> Tensor:
    """Return (length,) ids: for each place the candidate whose row of the gradient is most like that of the place.

    A token and its place are added up before the first layer, so both rows get the same from it: they are equal, but
    for a token that occurs twice. In a batch the row of a place is a sum over its texts, and the order of none.
    """
    alike = normalize(seen.places[:length], dim=1) @ normalize(seen.table[candidates], dim=1).T
    return candidates[alike.argmax(dim=1)]


def precision_and_recall(found: set[int], true: set[int]) -> tuple[float, float]:
    """Return the share of found tokens that are true, 0 if none is found, and of true tokens that are found."""
    both = len(found & true)
    return both / len(found) if found else 0.0, both / len(true)
