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
        self.kernel = settings.kernel
        self.embedding = nn.Embedding(len(alphabet), settings.dimension)
        self.dropout = nn.Dropout(dropout)
        # Windows as rows of a matrix, an example's one after the other: its gradients must be kept apart.
        self.convolution = nn.Linear(settings.kernel * settings.dimension, settings.filters)

    def forward(self, ids: Tensor) -> Tensor:
        characters = self.spelling[ids]
        # No more of each word than the batch's longest has.
        width = max(1, int((characters >= 0).sum(dim=-1).max()))
        words = (characters.shape[1], width)
        characters = characters[..., :width].flatten(1)
        kept = characters >= 0
        # A text's characters one after the other: most words are far shorter than the longest.
        places = torch.argsort((~kept).byte(), dim=1, stable=True)[:, : max(1, int(kept.sum(dim=1).max()))]
        here = kept.gather(1, places)
        vectors = self.dropout(self.embedding(characters.gather(1, places).clamp(min=0).long()))
        found = self.convolution(self._windows(vectors, (places // width).where(here, -1)))
        # Each word's in a row of their own, for the most of them; of words alone, not of where there is none.
        spelt = kept.unflatten(1, words).any(dim=2).flatten()
        text = torch.arange(len(ids), device=ids.device)[:, None]
        rows = (spelt.cumsum(0) - 1)[(text * words[0] + places // width)[here]]
        by_word = found.new_full((int(spelt.sum()), width, found.shape[2]), -torch.inf)
        most = by_word.index_put((rows, (places % width)[here]), found[here]).amax(dim=1)
        features: Tensor = most.new_zeros(len(spelt), most.shape[1]).index_copy(0, spelt.nonzero()[:, 0], most)
        return features.view(*ids.shape, -1)

    def _windows(self, vectors: Tensor, word: Tensor) -> Tensor:
        """Return (n, characters, kernel x dimension): around each character, the vectors of its own word's.

        Args:
            vectors: (n, characters, dimension).
            word: (n, characters) the word of each.
        """
        length, before = vectors.shape[1], (self.kernel - 1) // 2
        around = (before, self.kernel - 1 - before)
        vectors, beside = functional.pad(vectors, (0, 0, *around)), functional.pad(word, around, value=-1)
        parts = [slice(start, start + length) for start in range(self.kernel)]
        return torch.cat([vectors[:, part] * (beside[:, part] == word)[..., None] for part in parts], dim=2)
