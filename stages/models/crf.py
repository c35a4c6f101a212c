"""A linear chain over the tags of a text's words: likelihood, best sequence and marginals (Lafferty et al. 2001).

Tags y_1 .. y_m score start(y_1) + sum_t emission_t(y_t) + sum_t transition(y_t, y_t+1) + end(y_m); their probability is
in proportion to exp of that. Any tag may follow any other.

Not pytorch-crf (0.7.2, of 2019): it takes no texts whose words are some of their tokens, has no marginals, sums over
pairs of tags one by one, and uses its parameters past any layer, where no example's gradient can be clipped.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.models.encoders import IGNORED_TAG


class ChainScores(NamedTuple):
    """What a chain adds to the emissions, for all texts or for each: ([n,] tags, tags), ([n,] tags), ([n,] tags)."""

    transitions: Tensor
    starts: Tensor
    ends: Tensor


class Chain(nn.Module):
    """The trained scores of a chain; at first all zero, so that words are tagged independently."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.starts = nn.Parameter(torch.zeros(tags))
        self.ends = nn.Parameter(torch.zeros(tags))

    def forward(self) -> ChainScores:
        # Called, not read: while gradients are clipped, each example has its own (stages/privacy/layers.py).
        return ChainScores(self.transitions, self.starts, self.ends)


def log_likelihoods(emissions: Tensor, chain: ChainScores, tags: Tensor) -> Tensor:
    """Return (n,) log-probabilities of the tags of each text; 0 for a text without tags.

    Args:
        emissions: (n, length, tags) scores of the tags of each token.
        chain: Of the same texts.
        tags: (n, length) tag indices; the chain leaves out tokens of IGNORED_TAG.
    """
    order, counts = _to_front(tags != IGNORED_TAG)
    emissions, tags = _taken(emissions, order), tags.gather(1, order).clamp(min=0)
    position = torch.arange(tags.shape[1], device=tags.device)
    of_words = emissions.gather(2, tags[..., None])[..., 0]
    # Row i of the transitions follows tag i.
    following = chain.transitions.flatten(-2).expand(len(tags), -1)
    of_pairs = following.gather(1, tags[:, :-1] * emissions.shape[2] + tags[:, 1:])
    last = tags.gather(1, (counts - 1).clamp(min=0)[:, None])
    score = (
        (of_words * (position < counts[:, None])).sum(dim=1)
        + (of_pairs * (position[1:] < counts[:, None])).sum(dim=1)
        + chain.starts.expand(len(tags), -1).gather(1, tags[:, :1])[:, 0]
        + chain.ends.expand(len(tags), -1).gather(1, last)[:, 0]
    )
    log_partition = (_forward(emissions, chain, counts)[:, -1] + chain.ends).logsumexp(dim=1)
    return (score - log_partition).where(counts > 0, 0)


def best(emissions: Tensor, chain: ChainScores, words: Tensor) -> Tensor:
    """Return (n, length) tags of the most probable sequence of each text, by Viterbi's algorithm; 0 where no word is.

    Args:
        emissions: (n, length, tags).
        chain: Of the same texts.
        words: (n, length) whether a token begins a word.
    """
    order, counts = _to_front(words)
    emissions = _taken(emissions, order)
    score, came_from = chain.starts + emissions[:, 0], []
    for position in range(1, emissions.shape[1]):
        reached, before = (score[:, :, None] + chain.transitions).max(dim=1)
        inside = (position < counts)[:, None]
        score = (reached + emissions[:, position]).where(inside, score)
        # After the last word a tag came from itself.
        came_from.append(before.where(inside, torch.arange(score.shape[1], device=score.device)))
    tag = (score + chain.ends).argmax(dim=1, keepdim=True)
    found = [tag]
    for before in reversed(came_from):
        found.append(before.gather(1, found[-1]))
    tags = torch.cat(found[::-1], dim=1)
    return torch.zeros_like(tags).scatter(1, order, tags).where(words, 0)


def log_marginals(emissions: Tensor, chain: ChainScores, words: Tensor) -> Tensor:
    """Return (n, length, tags) log-probabilities of each tag of each word given the text; 0 where no word is.

    Args:
        emissions: (n, length, tags).
        chain: Of the same texts.
        words: (n, length) whether a token begins a word.
    """
    order, counts = _to_front(words)
    emissions = _taken(emissions, order)
    # What comes after a word is what comes before it in the chain and the text turned round.
    turned = (counts[:, None] - 1 - torch.arange(order.shape[1], device=order.device)).clamp(min=0)
    mirror = ChainScores(chain.transitions.transpose(-1, -2), chain.ends, chain.starts)
    after = _taken(_forward(_taken(emissions, turned), mirror, counts), turned)
    joint = _forward(emissions, chain, counts) + after - emissions
    found = torch.zeros_like(joint).scatter(1, order[..., None].expand_as(joint), joint.log_softmax(dim=2))
    return found.where(words[..., None], 0)


def _forward(emissions: Tensor, chain: ChainScores, counts: Tensor) -> Tensor:
    """Return (n, length, tags) logs of the summed scores of all beginnings that end in a word with a tag.

    From a text's last word on they stay as they are there.
    """
    # Sums of exponentials as one matrix product, not one sum for each pair of tags; exponents are of at most 0. What is
    # less than exp(-87) of the rest is lost in float32, which only transitions so far apart could make matter.
    highest = chain.transitions.detach().amax(dim=(-1, -2), keepdim=True)
    factors = (chain.transitions - highest).exp()
    highest, least = highest[..., 0], torch.finfo(emissions.dtype).tiny
    scores = [chain.starts + emissions[:, 0]]
    for position in range(1, emissions.shape[1]):
        before = scores[-1]
        top = before.detach().amax(dim=1, keepdim=True)
        reached = torch.matmul((before - top).exp()[:, None], factors)[:, 0].clamp(min=least).log() + top + highest
        scores.append((reached + emissions[:, position]).where((position < counts)[:, None], before))
    return torch.stack(scores, dim=1)


def _to_front(words: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, length) positions, those of words first and in their order, and (n,) numbers of words."""
    return torch.argsort(~words, dim=1, stable=True), words.sum(dim=1)


def _taken(values: Tensor, positions: Tensor) -> Tensor:
    """Return values (n, length, d) at positions (n, length)."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[2]))
