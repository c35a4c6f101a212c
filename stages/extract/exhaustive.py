"""The oracle: the loss of every code, and so the exact rank of the secret.

No search finds a lower loss. It tells a secret that the model does not hold from a search that failed.
"""

import torch
from torch import Tensor

from stages.extract import recurrent
from stages.extract.codes import codes
from stages.extract.target import Target

# Codes scored at once.
BATCH = 4096


def all_losses(target: Target) -> Tensor:
    """Return (V^n,) losses of all codes, the first word varying slowest; by `recurrent` if it knows the model."""
    return recurrent.all_losses(target) if recurrent.knows(target.model) else whole(target)


def whole(target: Target, batch: int = BATCH) -> Tensor:
    """Return the same for any model, each code read whole, so many at a time."""
    number, device = target.alphabet**target.unknown, target.context.device
    batches = torch.arange(number, device=device).split(batch)
    with torch.no_grad():
        return torch.cat([target.discrete(codes(rows, target.unknown, target.alphabet)) for rows in batches])
