"""The chain against the definition: every sequence of tags, one after the other."""

import itertools

import pytest
import torch
from torch.nn.functional import pad

from stages.models.crf import Chain, ChainScores, best, log_likelihoods, log_marginals
from stages.models.encoders import IGNORED_TAG

TAGS = 3
# Which of four tokens begin a word: all, with holes, one, none.
WORDS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()


@pytest.fixture
def batch():
    """Emissions, chain and tags of six texts in float64."""
    torch.manual_seed(0)
    chain = ChainScores(*(2 * torch.randn(*shape).double() for shape in ((TAGS, TAGS), (TAGS,), (TAGS,))))
    tags = torch.randint(TAGS, WORDS.shape).where(WORDS, IGNORED_TAG)
    return 3 * torch.randn(*WORDS.shape, TAGS).double(), chain, tags


def by_sequence(batch, row):
    """Return tags of the words -> log-probability, by enumeration."""
    emissions, chain, _ = batch
    transitions, starts, ends = chain
    of_words = emissions[row][WORDS[row]]
    scores = {}
    for tags in itertools.product(range(TAGS), repeat=len(of_words)):
        scores[tags] = starts[tags[0]] + ends[tags[-1]]
        scores[tags] += sum(word[tag] for word, tag in zip(of_words, tags, strict=True))
        scores[tags] += sum(transitions[one, other] for one, other in itertools.pairwise(tags))
    log_partition = torch.stack(list(scores.values())).logsumexp(0)
    return {tags: score - log_partition for tags, score in scores.items()}


def rows():
    return [row for row in range(len(WORDS)) if WORDS[row].any()]


def test_the_likelihood_is_that_of_enumeration(batch):
    found = log_likelihoods(*batch)
    for row in rows():
        torch.testing.assert_close(found[row], by_sequence(batch, row)[tuple(batch[2][row][WORDS[row]].tolist())])


def test_read_without_a_gradient_the_likelihood_is_the_same(batch):
    emissions, chain, tags = batch
    trained = ChainScores(*(part.requires_grad_() for part in chain))
    expected = log_likelihoods(emissions, trained, tags).detach()
    with torch.no_grad():
        torch.testing.assert_close(log_likelihoods(emissions, trained, tags), expected, rtol=0, atol=1e-12)


def test_the_likelihoods_of_all_sequences_sum_to_one(batch):
    emissions, chain, _ = batch
    sequences = [torch.tensor(tags).expand(len(WORDS), 4) for tags in itertools.product(range(TAGS), repeat=4)]
    total = torch.stack([log_likelihoods(emissions, chain, tags) for tags in sequences]).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros_like(total))


def test_the_best_sequence_is_the_most_probable_of_all(batch):
    found = best(batch[0], batch[1], WORDS)
    for row in rows():
        probable = by_sequence(batch, row)
        assert tuple(found[row][WORDS[row]].tolist()) == max(probable, key=probable.get)
    assert not found[~WORDS].any()


def test_the_marginals_are_sums_over_sequences(batch):
    found = log_marginals(batch[0], batch[1], WORDS)
    for row in rows():
        probable = by_sequence(batch, row)
        for place, token in enumerate(WORDS[row].nonzero()[:, 0]):
            for tag in range(TAGS):
                held = [value for tags, value in probable.items() if tags[place] == tag]
                torch.testing.assert_close(found[row, token, tag], torch.stack(held).logsumexp(0))
    assert not found[~WORDS].any()


def test_a_text_without_words_has_a_likelihood_of_one_and_no_gradient(batch):
    emissions = batch[0].requires_grad_()
    found = log_likelihoods(emissions, *batch[1:])
    assert found[-1] == 0
    found.sum().backward()
    assert not emissions.grad[-1].any()
    assert emissions.grad.isfinite().all()


def test_padding_and_tokens_that_begin_no_word_change_no_bit(batch):
    emissions, chain, tags = batch
    changed = emissions.masked_fill(~WORDS[..., None], 100.0)
    wider, more = pad(changed, (0, 0, 0, 3), value=-50.0), pad(WORDS, (0, 3))
    wider_tags = pad(tags, (0, 3), value=IGNORED_TAG)
    assert torch.equal(log_likelihoods(wider, chain, wider_tags), log_likelihoods(emissions, chain, tags))
    assert torch.equal(best(wider, chain, more)[:, :4], best(emissions, chain, WORDS))
    assert torch.equal(log_marginals(wider, chain, more)[:, :4], log_marginals(emissions, chain, WORDS))


def test_a_text_alone_is_what_it_is_in_a_batch(batch):
    emissions, chain, tags = batch
    together = log_likelihoods(*batch), best(emissions, chain, WORDS), log_marginals(emissions, chain, WORDS)
    for row in range(len(WORDS)):
        own, words = emissions[[row]], WORDS[[row]]
        torch.testing.assert_close(log_likelihoods(own, chain, tags[[row]])[0], together[0][row])
        assert torch.equal(best(own, chain, words)[0], together[1][row])
        torch.testing.assert_close(log_marginals(own, chain, words)[0], together[2][row])


def test_gradients_are_those_of_finite_differences(batch):
    emissions, chain, tags = batch
    given = [part.requires_grad_() for part in (emissions, *chain)]
    assert torch.autograd.gradcheck(lambda e, *parts: log_likelihoods(e, ChainScores(*parts), tags), given)


def test_of_copies_each_takes_the_gradient_of_its_own_text(batch):
    emissions, chain, tags = batch
    copies = ChainScores(*(part.expand(len(WORDS), *part.shape).clone().requires_grad_() for part in chain))
    found = log_likelihoods(emissions, copies, tags)
    torch.testing.assert_close(found, log_likelihoods(emissions, chain, tags))
    assert torch.equal(best(emissions, copies, WORDS), best(emissions, chain, WORDS))
    assert torch.equal(log_marginals(emissions, copies, WORDS), log_marginals(emissions, chain, WORDS))
    found.sum().backward()
    for row in range(len(WORDS)):
        alone = ChainScores(*(part.clone().requires_grad_() for part in chain))
        log_likelihoods(emissions[[row]], alone, tags[[row]]).sum().backward()
        for own, expected in zip(copies, alone, strict=True):
            torch.testing.assert_close(own.grad[row], expected.grad)


def test_scores_far_apart_lose_nothing_in_float32(batch):
    emissions, chain, tags = batch
    spread = 40.0
    chain = ChainScores(*(part * spread / part.abs().max() / 2 for part in chain))
    exact = log_likelihoods(100 * emissions, chain, tags)
    found = log_likelihoods((100 * emissions).float(), ChainScores(*(part.float() for part in chain)), tags)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


def test_a_new_chain_tags_each_word_independently(batch):
    emissions, _, tags = batch
    with torch.no_grad():
        chain = ChainScores(*(part.double() for part in Chain(TAGS)()))
    independent = torch.nn.functional.cross_entropy(
        emissions.transpose(1, 2), tags, reduction="none", ignore_index=IGNORED_TAG
    ).sum(1)
    torch.testing.assert_close(-log_likelihoods(emissions, chain, tags), independent)
    assert torch.equal(best(emissions, chain, WORDS)[WORDS], emissions.argmax(dim=2)[WORDS])
