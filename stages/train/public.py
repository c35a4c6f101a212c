"""Texts that nobody wrote: gradients measured on them say nothing of the private examples."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stages.common.streams import generator
from stages.models.classifier import TextClassifier
from stages.models.encoders import IGNORED_TAG, EncodedText, StaticTable, mask
from stages.models.examples import Examples

TEXTS = 32


def random_losses(model: TextClassifier, max_length: int, seed: int) -> Callable[[], Tensor]:
    """Return what computes the model's (TEXTS,) losses on random texts with random labels and tags."""
    examples = random_examples(model, max_length, seed)
    inputs, objective = model.inputs(examples.text), model.objective(examples)
    return lambda: objective(model(*inputs), torch.arange(TEXTS, device=model.device))


def random_examples(model: TextClassifier, max_length: int, seed: int) -> Examples:
    """Return TEXTS examples: lengths up to `max_length`, token ids, labels and tags all uniform."""
    draws = generator(seed, "public texts")
    encoder = model.encoder
    tokens = len(encoder.table) if isinstance(encoder, StaticTable) else int(encoder.model.config.vocab_size)
    lengths = torch.from_numpy(draws.integers(1, max_length + 1, size=TEXTS))
    ids = torch.from_numpy(draws.integers(tokens, size=(TEXTS, max_length), dtype=np.int32))
    labels = torch.from_numpy(draws.integers(model.labels.out_features, size=TEXTS))
    kept = mask(lengths, max_length)
    tags = None
    if model.tags is not None:
        drawn = torch.from_numpy(draws.integers(model.tags.out_features, size=(TEXTS, max_length)))
        tags = drawn.where(kept, IGNORED_TAG)
    names = np.array([f"random-{row}" for row in range(TEXTS)], dtype=object)
    text = EncodedText(ids.where(kept, 0), lengths, torch.full((TEXTS, max_length), -1, dtype=torch.int16))
    return Examples(names, text, labels, tags, [])
