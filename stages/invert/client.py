"""A client of a federation: its private texts, what the server knows of them, and the update that it sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stages.common.errors import SettingError
from stages.models.classifier import Scores, TextClassifier, losses
from stages.models.encoders import Transformer, mask, tokenizer
from stages.models.examples import Examples
from stages.models.fitted import FittedModel
from stages.privacy.clipping import ClippedGradients
from stages.privacy.noise import Noise


@dataclass(frozen=True)
class Known:
    """What the server knows of n private texts: all but the tokens between the tokenizer's own marks.

    Attributes:
        ids: (n, length) token ids, 0 where they are unknown and after a text's end.
        unknown: (n, length) where they are unknown.
        lengths: (n,) tokens of each text.
        labels: (n,) label indices.
        tags: (n, length) tag indices, IGNORED_TAG where no word begins; None without tags.
    """

    ids: Tensor
    unknown: Tensor
    lengths: Tensor
    labels: Tensor
    tags: Tensor | None

    def losses(self, scores: Scores) -> Tensor:
        """Return (n,) losses of the texts, as in training."""
        return losses(scores, self.labels, self.tags)


@dataclass(frozen=True)
class Client:
    """A batch of private texts: ids (n, length), padded with 0, and what the server knows of them."""

    ids: Tensor
    known: Known

    def texts(self, ids: Tensor) -> list[list[int]]:
        """Return the tokens of each text that are unknown to the server, of ids (n, length)."""
        return [row[unknown].tolist() for row, unknown in zip(ids, self.known.unknown, strict=True)]


class Update(NamedTuple):
    """A mean gradient.

    Attributes:
        table: (tokens, width) of the table of token vectors.
        others: Of all other trained parameters, in their order.
        places: (longest, width) the one of those that is of the vectors of places, from a text's first token on.
    """

    table: Tensor
    others: list[Tensor]
    places: Tensor


def encoder(model: TextClassifier) -> Transformer:
    """Return the encoder of a model that can be attacked.

    Raises:
        SettingError: Its token vectors are frozen, or a part of it cannot be differentiated twice.
    """
    found = model.encoder
    if not isinstance(found, Transformer) or not found.table.requires_grad:
        problem = "the model's token embeddings are frozen, so that no update has their gradient"
        raise SettingError("target", problem, "train the cell with an encoder of `trained_embeddings: true`")
    for part, remedy in ((model.recurrent, "head: mean"), (model.chain, "tagger: independent")):
        if part is not None:
            problem = f"{type(part).__name__} has no second gradient, which the attack takes"
            raise SettingError("target", problem, f"train the cell with a model of {remedy}")
    return found


def marks(fitted: FittedModel) -> Tensor:
    """Return the ids that stand around every text, such as [CLS] and [SEP]."""
    ids = tokenizer(fitted.settings.encoder, fitted.settings.max_length).encode("").ids
    return torch.tensor(ids, dtype=torch.int64)


def client(examples: Examples, around: Tensor, device: torch.device) -> Client:
    """Return examples as the texts of one client; `around` is what `marks` returned."""
    lengths = examples.text.lengths
    width = int(lengths.max())
    ids = examples.text.ids[:, :width].long()
    unknown = mask(lengths, width) & ~torch.isin(ids, around)
    tags = None if examples.tags is None else examples.tags[:, :width].to(device)
    known = Known(
        ids.masked_fill(unknown, 0).to(device),
        unknown.to(device),
        lengths.to(device),
        examples.labels.to(device),
        tags,
    )
    return Client(ids.to(device), known)


def others(model: TextClassifier) -> list[torch.nn.Parameter]:
    """Return the trained parameters but the table of token vectors."""
    table = encoder(model).table
    return [parameter for parameter in model.parameters() if parameter.requires_grad and parameter is not table]


def update(
    model: TextClassifier,
    client: Client,
    noise: Noise,
    clipping_norm: float | None = None,
    noise_multiplier: float = 0.0,
) -> Update:
    """Return what a client sends: its mean gradient.

    Args:
        model: In eval mode: the gradient is that of training without dropout.
        client: Its texts.
        noise: Of the model's device.
        clipping_norm: What each text's gradient is clipped to; not clipped, and without noise, if None.
        noise_multiplier: Standard deviation of the noise on their sum, in clipping norms.
    """
    table, rest = encoder(model).table, others(model)

    def of_texts(rows: Tensor) -> Tensor:
        del rows
        return client.known.losses(model(client.ids, client.known.lengths))

    rows = torch.arange(len(client.ids), device=model.device)
    if clipping_norm is None:
        found = torch.autograd.grad(of_texts(rows).mean(), [table, *rest], materialize_grads=True)
        return _update(model, found)
    clipping = ClippedGradients(model, clipping_norm)
    clipping.add_clipped_sum(of_texts, rows)
    noise.add(clipping.parameters, noise_multiplier * clipping_norm, len(rows))
    found = tuple(torch.zeros_like(each) if each.grad is None else each.grad for each in [table, *rest])
    model.zero_grad()
    return _update(model, found)


def _update(model: TextClassifier, gradients: Sequence[Tensor]) -> Update:
    places = encoder(model).places
    [of_places] = [
        gradient for parameter, gradient in zip(others(model), gradients[1:], strict=True) if parameter is places.weight
    ]
    # RoBERTa counts places from after that of padding.
    first = 0 if places.padding_idx is None else places.padding_idx + 1
    return Update(gradients[0], list(gradients[1:]), of_places[first:])
