"""What an attacker attacks: a model, the text around a secret, and the loss of whatever completes that text."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stages.common.errors import SettingError
from stages.fitting.secrets import Secret, canaries
from stages.fitting.settings import OPENING
from stages.models.classifier import Scores, TextClassifier, losses
from stages.models.crf import best
from stages.models.encoders import IGNORED_TAG, StaticTable
from stages.models.fitted import FittedModel


@dataclass(frozen=True)
class Target:
    """A canary of which n words are unknown, each one of V candidates of as many tokens (pieces) each.

    Attributes:
        model: In eval mode.
        context: (length, width) vectors of the text's tokens; those of the secret are placeholders.
        candidates: (n, V, pieces, width) vectors of each candidate at each unknown word.
        places: (n, pieces) positions of the unknown words' tokens in the text.
        label: (1,) the canary's.
        tags: (1, length) its tags, IGNORED_TAG where no word begins.
        label_knowledge: Whether the loss is that of this label and these tags.
        signal: Whether the loss is of label and tags, or of the label alone.
    """

    model: TextClassifier
    context: Tensor
    candidates: Tensor
    places: Tensor
    label: Tensor
    tags: Tensor
    label_knowledge: bool
    signal: Literal["joint", "label"] = "joint"

    @property
    def unknown(self) -> int:
        """Words of the secret."""
        return self.candidates.shape[0]

    @property
    def alphabet(self) -> int:
        """Candidates for each word."""
        return self.candidates.shape[1]

    def relaxed(self, mixtures: Tensor) -> Tensor:
        """Return (batch,) losses of mixtures of candidates: weights (batch, n, V)."""
        return self._losses(torch.einsum("buv,uvpw->bupw", mixtures, self.candidates))

    def discrete(self, codes: Tensor) -> Tensor:
        """Return (batch,) losses of codes (batch, n), indices of candidates."""
        return self._losses(self.candidates[torch.arange(self.unknown, device=codes.device), codes])

    def score_losses(self, scores: Scores) -> Tensor:
        """Return (batch,) losses of what the model scored: of the canary's label and tags, or of the likeliest."""
        labels, tags = self.label, self.tags
        if not self.label_knowledge:
            labels, tags = _likeliest(scores, tags)
        batch = len(scores.labels)
        if self.signal == "label":
            return losses(scores, labels.expand(batch), None)
        return losses(scores, labels.expand(batch), tags.expand(batch, -1))

    def _losses(self, words: Tensor) -> Tensor:
        vectors = self.context.repeat(len(words), 1, 1)
        vectors[:, self.places] = words
        lengths = torch.full((len(words),), len(self.context), device=vectors.device)
        return self.score_losses(self.model.score_embeddings(vectors, lengths))


def target(
    fitted: FittedModel, secret: Secret, label_knowledge: bool, signal: Literal["joint", "label"] = "joint"
) -> Target:
    """Return what is attacked in one model; the model's parameters take no gradients afterwards.

    Args:
        fitted: The model that was trained with the secret's pattern.
        secret: Its pattern and alphabet; the code is not looked at.
        label_knowledge: See Target.
        signal: See Target.

    Raises:
        SettingError: The model represents a token by its neighbours too, so that no candidate can be mixed in.
    """
    model = fitted.classifier.requires_grad_(False).eval()
    if not isinstance(model.encoder, StaticTable):
        neighbours = "the model represents a token by its neighbours too, and candidates cannot be mixed"
        raise SettingError("grid", neighbours, "take the cell out, or give its model a static encoder")
    alphabet, unknown = len(secret.alphabet), len(secret.code)
    # One text per candidate, which stands at all unknown words.
    codes = np.repeat(np.arange(alphabet)[:, None], unknown, axis=1)
    texts = fitted.examples(canaries(secret.template, secret.alphabet, codes))
    with torch.no_grad():
        vectors = model.embed(texts.text.ids.to(model.device))
    places = _places(texts.text.words[0], secret)
    assert texts.tags is not None
    return Target(
        model,
        vectors[0],
        vectors[:, places].transpose(0, 1).contiguous(),
        places.to(vectors.device),
        texts.labels[:1].to(vectors.device),
        texts.tags[:1].to(vectors.device),
        label_knowledge,
        signal,
    )


def _places(words: Tensor, secret: Secret) -> Tensor:
    """Return the positions of the secret's tokens in a text: (unknown, pieces)."""
    starts = [int(start) for start in torch.nonzero(words >= 0)[:, 0]] + [len(words)]
    first = secret.template.split().index(OPENING)
    # All words of an alphabet have as many.
    pieces = torch.arange(starts[first + 1] - starts[first])
    return torch.tensor(starts[first : first + len(secret.code)])[:, None] + pieces


def _likeliest(scores: Scores, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels (batch,) and tags (batch, length) that the model finds likeliest; ignored tags stay ignored."""
    assert scores.tags is not None
    emissions, words = scores.tags.detach(), tags != IGNORED_TAG
    if scores.chain is None:
        found = emissions.argmax(dim=2)
    else:
        found = best(emissions, scores.chain, words.expand(len(emissions), -1))
    return scores.labels.detach().argmax(dim=1), found.where(words, IGNORED_TAG)
