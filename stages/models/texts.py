"""Whole texts, as a language model reads them."""

from collections.abc import Sequence

import torch

from stages.models.encoders import EncodedText, encode, padded_ids
from stages.models.pretrained import end_of_text, tokenizer
from stages.models.settings import LanguageModelSettings, WordNetwork


def whole(texts: Sequence[str], settings: LanguageModelSettings) -> EncodedText:
    """Encode texts behind the mark of a beginning; of words the mark of an end follows, unless it is cut off."""
    tokenize = tokenizer(settings)
    if not isinstance(settings.network, WordNetwork):
        return encode(tokenize, texts, special=True)
    end = end_of_text(settings)
    marked = [[*encoding.ids, end][: settings.max_length] for encoding in tokenize.encode_batch(list(texts))]
    ids, lengths = (torch.from_numpy(each) for each in padded_ids(marked))
    return EncodedText(ids, lengths, torch.full(ids.shape, -1, dtype=torch.int16))
