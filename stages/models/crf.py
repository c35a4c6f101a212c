"""A linear chain over the tags of a text's words: likelihood, best sequence and marginals (Lafferty et al. 2001).

Tags y_1 .. y_m score start(y_1) + sum_t emission_t(y_t) + sum_t transition(y_t, y_t+1) + end(y_m); their probability is
in proportion to exp of that. Any tag may follow any other.

Not pytorch-crf (0.7.2, of 2019): it takes no texts whose words are some of their tokens, has no marginals, sums over
pairs of tags one by one, and uses its parameters past any layer, where no example's gradient can be clipped.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stages.models.encoders import IGNORED_TAG


class ChainScores(NamedTuple):
    """What a chain adds to the emissions: (tags, tags), (tags,), (tags,), or n copies of each.

    Of copies, one for each text, each takes the gradient of its text: so gradients are clipped by example.
    """

    transitions: Tensor
    starts: Tensor
    ends: Tensor

    @property
    def one(self) -> "ChainScores":
        """The chain that all are copies of, without a gradient."""
        copies = self.starts.dim() > 1
        return ChainScores(*(part.detach()[0] if copies else part.detach() for part in self))


class Chain(nn.Module):
    """The trained scores of a chain; at first all zero, so that words are tagged independently."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.starts = nn.Parameter(torch.zeros(tags))
        self.ends = nn.Parameter(torch.zeros(tags))

    def forward(self) -> ChainScores:
        # Called, not read: while gradients are clipped, each example has its copy (stages/privacy/layers.py).
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
    # By the base's type: mypy takes a subclass's apply for untyped.
    of_all: type[torch.autograd.Function] = _LogPartition
    log_partition: Tensor = of_all.apply(emissions, *chain, counts, torch.is_grad_enabled())
    return (score - log_partition).where(counts > 0, 0)


def best(emissions: Tensor, chain: ChainScores, words: Tensor) -> Tensor:
    """Return (n, length) tags of the most probable sequence of each text, by Viterbi's algorithm; 0 where no word is.

    Args:
        emissions: (n, length, tags).
        chain: Of the same texts.
        words: (n, length) whether a token begins a word.
    """
    order, counts = _to_front(words)
    emissions, chain = _taken(emissions, order), chain.one
    inside = (torch.arange(emissions.shape[1], device=counts.device)[:, None] < counts)[..., None].unbind()
    onto = chain.transitions.T.contiguous()
    scores = [chain.starts + emissions[:, 0]]
    for position in range(1, emissions.shape[1]):
        reached = (scores[-1][:, None] + onto).amax(dim=2)
        scores.append((reached + emissions[:, position]).where(inside[position], scores[-1]))
    tag = (scores.pop() + chain.ends).argmax(dim=1)
    found = [tag]
    # Where a tag came from is asked of the best sequence alone: of every tag it takes longer than their scores.
    for position, score in reversed(list(enumerate(scores, 1))):
        # After the last word a tag came from itself.
        tag = (score + onto[tag]).argmax(dim=1).where(inside[position][:, 0], tag)
        found.append(tag)
    tags = torch.stack(found[::-1], dim=1)
    return torch.zeros_like(tags).scatter(1, order, tags).where(words, 0)


def log_marginals(emissions: Tensor, chain: ChainScores, words: Tensor) -> Tensor:
    """Return (n, length, tags) log-probabilities of each tag of each word given the text; 0 where no word is.

    To read, not to train by: the chain takes no gradient.

    Args:
        emissions: (n, length, tags).
        chain: Of the same texts.
        words: (n, length) whether a token begins a word.
    """
    order, counts = _to_front(words)
    emissions, chain = _taken(emissions, order), chain.one
    before, after = _both(emissions, chain, counts)
    joint = before + after - emissions
    found = torch.zeros_like(joint).scatter(1, order[..., None].expand_as(joint), joint.log_softmax(dim=2))
    return found.where(words[..., None], 0)


def _both(emissions: Tensor, chain: ChainScores, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `_forward` does of all beginnings that end in a word with a tag, and of all ends that begin there."""
    # Ends are the beginnings of the text and the chain turned round; step by step beside the others they cost little.
    turned = (counts[:, None] - 1 - torch.arange(emissions.shape[1], device=counts.device)).clamp(min=0)
    before, after = _forward(
        torch.stack([emissions, _taken(emissions, turned)]),
        torch.stack([chain.transitions, chain.transitions.T]),
        torch.stack([chain.starts, chain.ends]),
        counts,
    )
    return before, _taken(after, turned)


def _forward(emissions: Tensor, transitions: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Return (ways, n, length, tags) logs of the summed scores of all beginnings that end in a word with a tag.

    From a text's last word on they stay as they are there.

    Args:
        emissions: (ways, n, length, tags) of the same texts, each way by a chain of its own.
        transitions: (ways, tags, tags).
        starts: (ways, tags).
        counts: (n,) words of each text.
    """
    # Sums of exponentials as one matrix product, not one sum for each pair of tags; exponents are of at most 0. What is
    # less than exp(-87) of the rest is lost in float32, which only transitions so far apart could make matter.
    highest, least = transitions.amax(), torch.finfo(emissions.dtype).tiny
    factors = (transitions - highest).exp()
    inside = (torch.arange(emissions.shape[2], device=counts.device)[:, None] < counts)[..., None].unbind()
    scores = [starts[:, None] + emissions[:, :, 0]]
    for within, added in zip(inside[1:], (emissions + highest).unbind(2)[1:], strict=True):
        before = scores[-1]
        top = before.amax(dim=2, keepdim=True)
        reached = (before - top).exp_() @ factors
        scores.append(reached.clamp_(min=least).log_().add_(top).add_(added).where(within, before))
    return torch.stack(scores, dim=2)


class _LogPartition(torch.autograd.Function):
    """(n,) logs of the summed scores of all sequences; words come first, so many as `counts` says.

    Its gradients are marginal probabilities. Those of the transitions are one product of matrices for all positions,
    where autograd would add up a matrix per example at each.
    """

    @staticmethod
    def forward(
        context: Any,
        emissions: Tensor,
        transitions: Tensor,
        starts: Tensor,
        ends: Tensor,
        counts: Tensor,
        training: bool,
    ) -> Tensor:
        chain = ChainScores(transitions, starts, ends).one
        # `training` is the caller's: in here no gradient is ever taken.
        if training and any(context.needs_input_grad):
            before, after = _both(emissions, chain, counts)
        else:
            before = _forward(emissions[None], chain.transitions[None], chain.starts[None], counts)[0]
            after = None
        log_partition = (before[:, -1] + chain.ends).logsumexp(dim=1)
        context.save_for_backward(emissions, chain.transitions, chain.ends, counts, before, after, log_partition)
        context.copies = starts.dim() > 1
        return log_partition

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        emissions, transitions, ends, counts, before, after, log_partition = context.saved_tensors
        inside = (torch.arange(emissions.shape[1], device=counts.device) < counts[:, None])[..., None]
        total, scale = log_partition[:, None, None], gradient[:, None, None]
        of_words = (before + after - emissions - total).masked_fill(~inside, -torch.inf).exp() * scale
        of_ends = ((before[:, -1:] + ends - total).exp() * scale * inside[:, :1])[:, 0]
        # p(i, j) = exp(before_i + transition_ij + after_j - total), each factor of at most 1 but the scale.
        first, second = before[:, :-1], after[:, 1:]
        tops, highest = (first.amax(2, keepdim=True), second.amax(2, keepdim=True)), transitions.amax()
        scales = (tops[0] + tops[1] + highest - total).masked_fill(~inside[:, 1:], -torch.inf).exp() * scale
        first, second = (first - tops[0]).exp() * scales, (second - tops[1]).exp()
        factors = (transitions - highest).exp()
        if context.copies:
            return of_words, first.transpose(1, 2) @ second * factors, of_words[:, 0], of_ends, None, None
        of_pairs = first.flatten(0, 1).T @ second.flatten(0, 1) * factors
        return of_words, of_pairs, of_words[:, 0].sum(dim=0), of_ends.sum(dim=0), None, None


def _to_front(words: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, length) positions, those of words first and in their order, and (n,) numbers of words."""
    return torch.argsort((~words).byte(), dim=1, stable=True), words.sum(dim=1)


def _taken(values: Tensor, positions: Tensor) -> Tensor:
    """Return values (n, length, d) at positions (n, length)."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[2]))
