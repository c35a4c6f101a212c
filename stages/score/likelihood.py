"""How likely a causal language model finds each token of sentences that are compared with each other.

Such sentences mostly begin alike, and what a network makes of that beginning is the same for all: it is read once,
where that saves more than a further pass takes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.encoders import padded_ids
from stages.models.language import LanguageModel
from stages.score.tokens import Tokens, check_length, whole_tokenizer

# Of groups that are read at once: how many tokens their texts begin with that are read once, and their numbers.
Batch = tuple[int, list[int]]

# A pass over few tokens takes as long as one over so many: the weights are read all the same. Measured on two cores.
PASS = 32


def whole_tokens(model: LanguageModel, texts: Sequence[str]) -> list[Tokens]:
    """Return tokens of texts behind the mark of a beginning; InputError if the model reads fewer than a text has."""
    return _checked(model, [each.ids for each in whole_tokenizer(model).encode_batch(list(texts))])


def continued_tokens(model: LanguageModel, begun: Sequence[Tokens], texts: Sequence[str]) -> list[Tokens]:
    """Return tokens with those of a text behind them, which a space parts; InputError as in `whole_tokens`."""
    further = whole_tokenizer(model).encode_batch([f" {text}" for text in texts], add_special_tokens=False)
    return _checked(model, [[*before, *each.ids] for before, each in zip(begun, further, strict=True)])


@torch.no_grad()
def log_probabilities(model: LanguageModel, groups: Sequence[Sequence[Tokens]]) -> list[list[NDArray[np.float64]]]:
    """Return for each text of each group the (tokens - 1,) log-probabilities, in nats, of its tokens after the first.

    Each is conditioned on all tokens before it.

    Args:
        model: In eval mode.
        groups: n groups of texts, as tokens behind the mark of a beginning.
    """
    found: list[list[NDArray[np.float64]]] = [[] for _ in groups]
    for shared, batch in _batches(model, groups):
        texts = [text for number in batch for text in groups[number]]
        group = torch.tensor([place for place, number in enumerate(batch) for _ in groups[number]], device=model.device)
        begun = torch.tensor([groups[number][0][:shared] for number in batch], device=model.device)
        rest = torch.from_numpy(padded_ids([text[shared:] for text in texts])[0]).long().to(model.device)
        said = _log_probabilities(model, begun, rest, group).cpu().numpy()
        owners = [number for number in batch for _ in groups[number]]
        for row, (number, text) in enumerate(zip(owners, texts, strict=True)):
            found[number].append(said[row, : len(text) - 1])
    return found


def _log_probabilities(model: LanguageModel, begun: Tensor, rest: Tensor, group: Tensor) -> Tensor:
    """Return (texts, shared - 1 + width) log-probabilities of the tokens after the first.

    Args:
        model: See above.
        begun: (groups, shared) tokens that a group begins with; none where nothing is shared.
        rest: (texts, width) those of its texts behind them, at least 1; no token looks at padding behind it.
        group: (texts,) the row of a text's group.
    """
    if not begun.shape[1]:
        return _taken(model.network(input_ids=rest[:, :-1], use_cache=False).logits, rest[:, 1:])
    read = model.network(input_ids=begun, use_cache=True)
    of_beginning = _taken(read.logits[:, :-1], begun[:, 1:])[group]
    logits = read.logits[group, -1:]
    if rest.shape[1] > 1:
        read.past_key_values.batch_select_indices(group)
        further = model.network(input_ids=rest[:, :-1], past_key_values=read.past_key_values, use_cache=True)
        logits = torch.cat([logits, further.logits], dim=1)
    return torch.cat([of_beginning, _taken(logits, rest)], dim=1)


def _taken(logits: Tensor, ids: Tensor) -> Tensor:
    """Return (n, width) float64 log-probabilities of tokens, of logits (n, width, tokens) that say them."""
    return torch.log_softmax(logits, dim=2).gather(2, ids[..., None])[..., 0].double()


def _batches(model: LanguageModel, groups: Sequence[Sequence[Tokens]]) -> list[Batch]:
    """Return batches that hold each group once; those with like beginnings together, or of like length."""
    if not groups:
        return []
    shared, longest = [_shared(group) for group in groups], [max(map(len, group)) for group in groups]
    at_once = max(1, model.chunk // max(map(len, groups)))

    def plan(first: list[int], second: list[int]) -> tuple[int, list[Batch]]:
        """Return what the batches cost, in tokens, and these, in the order of two properties of groups."""
        cost, batches = 0, []
        order = sorted(range(len(groups)), key=lambda number: (first[number], second[number]))
        for start in range(0, len(order), at_once):
            numbers = order[start : start + at_once]
            texts, width = sum(len(groups[number]) for number in numbers), max(longest[number] for number in numbers)
            length = min(shared[number] for number in numbers)
            # The last tokens are read by nothing: one behind the beginning takes no further pass.
            further = PASS if width - length > 1 else 0
            if length * (texts - len(numbers)) <= further:
                length = further = 0
            cost += length * len(numbers) + (width - length) * texts + further
            batches.append((length, numbers))
        return cost, batches

    return min(plan(shared, longest), plan(longest, shared), key=lambda found: found[0])[1]


def _shared(texts: Sequence[Tokens]) -> int:
    """Return how many tokens all begin with, of which each text has at least one more."""
    least = min(map(len, texts)) - 1
    return next((place for place in range(least) if len({text[place] for text in texts}) > 1), least)


def _checked(model: LanguageModel, texts: list[Tokens]) -> list[Tokens]:
    check_length(model, max(map(len, texts), default=0))
    return texts
