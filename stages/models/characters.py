"""Trained features of how a word is spelt: a convolution over its characters, and the most each filter finds."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.models.settings import CharacterSettings

# Characters of a word that are looked at.
LONGEST = 64


class Characters(nn.Module):
    """Rows of a word list -> features (n, length, filters) of their spelling: 0 for row 0, which is no word's.

    A word has a window around each of its characters, beyond its ends filled with zeros. Source: Ma and Hovy 2016,
    "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", section 2.1.

    Args:
        words: Of rows 1 and on.
        settings: Sizes.
        dropout: Of the characters' vectors.
    """

    spelling: Tensor

    def __init__(self, words: Sequence[str], settings: CharacterSettings, dropout: float) -> None:
        super().__init__()
        longest = min(LONGEST, max(map(len, words), default=1))
        # numpy keeps text as code points, with zeros after its end.
        points = np.array(["", *words], dtype=f"<U{longest}").view(np.uint32).reshape(-1, longest)
        alphabet = np.unique(points[points > 0])
        spelling = np.where(points > 0, np.searchsorted(alphabet, points), -1).astype(np.int32)
        # Not persistent: it is as frozen as the list.
        self.register_buffer("spelling", torch.from_numpy(spelling), persistent=False)
        self.kernel, self.filters = settings.kernel, settings.filters
        self.embedding = nn.Embedding(len(alphabet), settings.dimension)
        self.dropout = nn.Dropout(dropout)
        # Windows as rows of a matrix: examples stay in the first dimension, as their gradients must be kept apart.
        self.convolution = nn.Linear(settings.kernel * settings.dimension, settings.filters)

    def forward(self, ids: Tensor) -> Tensor:
        characters = self.spelling[ids]
        kept = characters >= 0
        # No more of them than the batch's longest word has.
        width = max(1, int(kept.sum(dim=-1).max()))
        characters, kept = characters[..., :width].long(), kept[..., :width, None]
        words = characters.shape[1:]
        # An example's characters are one dimension to the layers: Opacus, which is compared with, takes no more.
        vectors = self.dropout(self.embedding(characters.clamp(min=0).flatten(1))).unflatten(1, words) * kept
        before = (self.kernel - 1) // 2
        padded = functional.pad(vectors, (0, 0, before, self.kernel - 1 - before))
        windows = padded.unfold(2, self.kernel, 1).flatten(3).flatten(1, 2)
        found = self.convolution(windows).unflatten(1, words).masked_fill(~kept, -torch.inf)
        features: Tensor = found.amax(dim=2).where(kept.any(dim=2), 0)
        return features
