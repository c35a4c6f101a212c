"""Complete a secret by what a language model finds likely: word by word, and by the loss of every code.

A code is as likely as the whole text that it completes (Carlini et al. 2019, "The Secret Sharer", section 4): its score
is the log-perplexity of the text, the sum of the losses of its tokens. Texts that begin alike share what the network
makes of their beginning, so that of 10,000 codes of four digits it reads 1 + 10 + 100 + 1,000 beginnings.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stages.common.errors import SettingError
from stages.extract.codes import codes
from stages.fitting.secrets import Secret, canaries
from stages.fitting.settings import OPENING
from stages.models.language import LanguageModel

# Codes whose beginnings are held at once: keys and values of a hundred of them are 50 MB in a network of 30 layers.
CODES = 1000


def check(model: LanguageModel, secret: Secret) -> None:
    """Raise SettingError if the words of a code are not as many tokens each.

    No end is scored: of words of which one begins another the longer could never be the likelier.
    """
    first, *others = secret.alphabet
    pattern = secret.template.split()
    before = pattern[: pattern.index(OPENING)]
    tokens = model.encode([" ".join([*before, word]) for word in secret.alphabet]).lengths.tolist()
    for word, count in zip(others, tokens[1:], strict=True):
        if count != tokens[0]:
            problem = f"the secret's word `{word}` has not as many tokens as `{first}` in this model"
            raise SettingError("grid", problem, "train the cell with a `secret` whose words have as many each")


def all_losses(model: LanguageModel, secret: Secret) -> Tensor:
    """Return (V^n,) losses of the pattern completed by all codes, the first word varying slowest."""
    length, alphabet = len(secret.code), len(secret.alphabet)
    found = []
    for rows in torch.arange(alphabet**length).split(CODES):
        table = canaries(secret.template, secret.alphabet, codes(rows, length, alphabet).numpy())
        found.append(text_losses(model, list(table["text"])))
    return torch.cat(found)


def likeliest(model: LanguageModel, secret: Secret) -> tuple[int, ...]:
    """Return the code that an attacker finds who takes the likeliest word at each place, and looks no further."""
    pattern = secret.template.split()
    before = pattern[: pattern.index(OPENING)]
    code: list[int] = []
    for _ in secret.code:
        known = [*before, *(secret.alphabet[index] for index in code)]
        losses = text_losses(model, [" ".join([*known, word]) for word in secret.alphabet])
        code.append(int(losses.argmin()))
    return tuple(code)


@torch.no_grad()
def text_losses(model: LanguageModel, texts: Sequence[str]) -> Tensor:
    """Return (n,) sums of the losses of all tokens of n texts, in nats and float64; each beginning is read once."""
    encoded = model.encode(texts)
    ids, lengths = encoded.ids.long().to(model.device), encoded.lengths.to(model.device)
    # Read together first: the tokens that all have in common.
    shared = max(1, min(_shared(ids), int(lengths.min()) - 1))
    read = model.network(input_ids=ids[:1, :shared], use_cache=True)
    says = torch.log_softmax(read.logits[0], dim=1).double()
    total = -says[:-1].gather(1, ids[0, 1:shared, None]).sum().repeat(len(ids))
    says = says[-1:]
    # Of each text, the row of `says` for what it begins with.
    beginning = torch.zeros_like(lengths)
    for place in range(shared, ids.shape[1]):
        here = lengths > place
        total[here] -= says[beginning[here], ids[here, place]]
        further = lengths > place + 1
        if not further.any():
            break
        pairs = torch.stack([beginning[further], ids[further, place]], dim=1)
        longer, beginning[further] = torch.unique(pairs, dim=0, return_inverse=True)
        read.past_key_values.batch_select_indices(longer[:, 0])
        read = model.network(input_ids=longer[:, 1:], past_key_values=read.past_key_values, use_cache=True)
        says = torch.log_softmax(read.logits[:, -1], dim=1).double()
    return total


def _shared(ids: Tensor) -> int:
    """Return how many tokens all of (n, length) begin with."""
    differ = np.flatnonzero((ids != ids[0]).any(dim=0).cpu().numpy())
    return int(differ[0]) if len(differ) else ids.shape[1]
