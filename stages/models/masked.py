"""The masked language model: a transformer that says which tokens stand behind masks, by those on both sides.

Source: Devlin et al. 2019, "BERT", section 3.1 and appendix A.1, but for the draws, which are made anew in every pass,
as in Liu et al. 2019, "RoBERTa", section 4.1.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.statistics import perplexity
from stages.models.encoders import (
    EncodedText,
    Transformer,
    check_complete,
    encode,
    load_transformer,
    of_positions,
    tokenizer,
)
from stages.models.evaluate import scored
from stages.models.examples import Examples, Vocabulary, unlabelled
from stages.models.settings import MaskedLanguageModelSettings, TransformerEncoder
from stages.models.text_model import Objective, TextModel

# Of a text's own tokens, the share that is predicted; of these, of which a mask is seen, and of which another token.
PREDICTED, MASKED, REPLACED = 0.15, 0.8, 0.1
# Where nothing is drawn, each so manieth token is predicted, which is the same share.
EVERY = 7
MASKS = ("[MASK]", "<mask>")


class MaskedLosses(NamedTuple):
    """Losses (n, k) in nats of the tokens that were to be predicted, and which of the k there are; 0 for others."""

    losses: Tensor
    predicted: Tensor


class MaskedLanguageModel(TextModel):
    """Say which tokens stand behind masks.

    Args:
        settings: The model's block of params.yaml.

    Attributes:
        mask_token: The token that is a mask.
    """

    settings: MaskedLanguageModelSettings

    def __init__(self, settings: MaskedLanguageModelSettings) -> None:
        super().__init__(settings)
        from transformers import AutoModelForMaskedLM

        self.mask_token = _mask_token(settings.encoder)
        network, missing = load_transformer(settings.encoder, AutoModelForMaskedLM)
        below = f"{network.base_model_prefix}."
        check_complete(name for name in missing if name.startswith(below))
        self.encoder = of_positions(
            Transformer(settings.encoder, network.base_model), settings.max_length, "models: max_length"
        )
        self.head = _head(network)
        # What both have, the vectors of the tokens, is as the encoder has it.
        own = {id(parameter) for parameter in self.encoder.parameters()}
        for parameter in self.head.parameters():
            if id(parameter) not in own:
                parameter.requires_grad_(bool(missing))

    @staticmethod
    def read(table: pd.DataFrame, settings: MaskedLanguageModelSettings, known: Vocabulary) -> Examples:
        """Encode texts."""
        del known
        return unlabelled(table, _encoded(list(table["text"]), settings))

    def encode(self, texts: Sequence[str]) -> EncodedText:
        """Return texts as the model reads them, between the marks of their ends."""
        return _encoded(texts, self.settings)

    def logits(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """Return (n, k, tokens) scores of all tokens at places (n, k) of texts whose masks are set."""
        states = self.encoder(ids, lengths)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        # Of the other tokens, most of a text, no scores are needed.
        found: Tensor = self.head(states[rows, places])
        return found

    def forward(self, ids: Tensor, lengths: Tensor) -> MaskedLosses:
        """Hide some tokens of texts and return the losses of what is then said of them.

        While it is trained they are drawn, at least one of each text that has any; else they are a seventh of a text's
        tokens, from one on that the text itself decides.
        """
        ids = ids[:, : int(lengths.max())].long()
        places, predicted = self._drawn(ids, lengths) if self.training else _regular(ids, lengths)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        truth = ids[rows, places]
        shown = torch.full_like(truth, self.mask_token)
        if self.training:
            drawn = torch.rand(truth.shape, device=ids.device)
            others = torch.randint(int(self.encoder.table.shape[0]), truth.shape, device=ids.device)
            shown = shown.where(drawn < MASKED, others.where(drawn < MASKED + REPLACED, truth))
        # A place that is not predicted is that of the first mark, which no text's own token is at.
        hidden = ids.scatter(1, places, shown.where(predicted, truth))
        said = self.logits(hidden, lengths, places)
        losses = nn.functional.cross_entropy(said.transpose(1, 2), truth, reduction="none")
        return MaskedLosses(losses * predicted, predicted)

    def _drawn(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        own = lengths - 2
        counts = (PREDICTED * own).round().long().clamp(min=1).minimum(own)
        most = max(1, int(counts.max()))
        at = torch.arange(max(1, ids.shape[1] - 2), device=ids.device)
        draws = torch.rand((len(ids), len(at)), device=ids.device).where(at < own[:, None], 2.0)
        predicted = torch.arange(most, device=ids.device) < counts[:, None]
        return (1 + draws.argsort(dim=1)[:, :most]).where(predicted, 0), predicted

    def objective(self, examples: Examples) -> Objective:
        """Return the mean loss of the tokens of each text that are predicted."""
        del examples
        return _mean_of_predicted

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return the perplexity of a seventh of each text's tokens, hidden together.

        On training examples nothing is measured: to read them anew is a quarter of what training costs.
        """
        del known
        if split == "train":
            return {}
        losses, counts = np.empty(len(examples)), np.empty(len(examples), dtype=np.int64)
        for rows, found in scored(self, examples):
            losses[rows.numpy()] = found.losses.double().sum(dim=1).cpu().numpy()
            counts[rows.numpy()] = found.predicted.sum(dim=1).cpu().numpy()
        return {f"{split}/masked_perplexity": perplexity(losses, counts, seed)}


def _regular(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    own = lengths - 2
    # Padding adds nothing to the sum, so that a text is read alike whatever it is batched with.
    first = ids.sum(dim=1) % own.clamp(min=1, max=EVERY)
    at = first[:, None] + EVERY * torch.arange(-(-max(1, ids.shape[1] - 2) // EVERY), device=ids.device)
    predicted = at < own[:, None]
    return (1 + at).where(predicted, 0), predicted


def _mean_of_predicted(found: MaskedLosses, rows: Tensor) -> Tensor:
    del rows
    return found.losses.sum(dim=1) / found.predicted.sum(dim=1).clamp(min=1)


def _encoded(texts: Sequence[str], settings: MaskedLanguageModelSettings) -> EncodedText:
    return encode(tokenizer(settings.encoder, settings.max_length), texts, special=True)


def _head(network: Any) -> nn.Module:
    """Return what gives scores of tokens from the states of a network, as `load_transformer` returned it."""
    for name in ("cls", "lm_head"):
        if (head := getattr(network, name, None)) is not None:
            assert isinstance(head, nn.Module)
            for module in head.modules():
                if hasattr(module, "decoder") and "bias" in module._parameters:
                    # Also its decoder's, which alone adds it: a layer has the parameters that it uses.
                    del module.bias
            return head
    try:
        parts = [getattr(network, f"vocab_{name}") for name in ("transform", "layer_norm", "projector")]
    except AttributeError:
        problem = f"{type(network).__name__} is not supported"
        raise InputError("params.yaml: models: encoder", problem, "allowed: BERT, its kin, DistilBERT") from None
    transform, norm, projector = parts
    return nn.Sequential(transform, network.activation, norm, projector)


@cache
def _mask_token(settings: TransformerEncoder) -> int:
    """Return the token that is a mask; InputError if there is none, or texts have other marks than one at each end."""
    loaded = tokenizer(settings, 4096)
    if (marks := loaded.num_special_tokens_to_add(False)) != 2:
        problem = f"its tokenizer puts {marks} marks at the ends of a text"
        raise InputError("params.yaml: models: encoder", problem, "give a model whose texts have one at each end")
    found = [token for mark in MASKS if (token := loaded.token_to_id(mark)) is not None]
    if not found:
        problem = f"its tokenizer has no token {' or '.join(MASKS)}"
        raise InputError("params.yaml: models: encoder", problem, "give a model that was trained with masks")
    return found[0]
