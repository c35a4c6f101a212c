import pytest
import torch
from torch.nn.functional import cross_entropy, pad

from stages.models import files
from stages.models.classifier import Scores, losses
from stages.models.crf import ChainScores, log_likelihoods
from stages.models.encoders import IGNORED_TAG
from stages.models.examples import vocabulary
from stages.models.kinds import examples

LENGTHS = (5, 1, 3)


@pytest.fixture
def batch():
    """Scores and truth of three texts of 5, 1 and 3 words, padded to 5."""
    draws = torch.Generator().manual_seed(0)
    scores = Scores(torch.randn(3, 4, generator=draws), torch.randn(3, 5, 6, generator=draws))
    labels, tags = torch.randint(4, (3,), generator=draws), torch.randint(6, (3, 5), generator=draws)
    for row, length in enumerate(LENGTHS):
        tags[row, length:] = IGNORED_TAG
    return scores, labels, tags


def test_a_loss_is_that_of_the_label_plus_the_mean_over_the_texts_own_words(batch):
    scores, labels, tags = batch
    for row, length in enumerate(LENGTHS):
        expected = (
            cross_entropy(scores.labels[row], labels[row])
            + sum(cross_entropy(scores.tags[row, word], tags[row, word]) for word in range(length)) / length
        )
        torch.testing.assert_close(losses(*batch)[row], expected)


def test_a_text_alone_has_the_loss_it_has_in_a_batch(batch):
    scores, labels, tags = batch
    for row, length in enumerate(LENGTHS):
        alone = Scores(scores.labels[[row]], scores.tags[[row], :length])
        torch.testing.assert_close(losses(alone, labels[[row]], tags[[row], :length])[0], losses(*batch)[row])


def test_more_padding_changes_no_loss(batch):
    scores, labels, tags = batch
    wider = Scores(scores.labels, pad(scores.tags, (0, 0, 0, 7), value=3.0))
    torch.testing.assert_close(losses(wider, labels, pad(tags, (0, 7), value=IGNORED_TAG)), losses(*batch))


def test_tags_may_be_wider_than_the_scores(batch):
    scores, labels, tags = batch
    assert torch.equal(losses(scores, labels, pad(tags, (0, 7), value=IGNORED_TAG)), losses(*batch))


def test_tokens_that_begin_no_word_have_no_part_in_it(batch):
    scores, labels, tags = batch
    tags[0, 2] = IGNORED_TAG
    before = losses(scores, labels, tags)
    scores.tags[0, 2] += 100 * torch.arange(6)
    assert torch.equal(losses(scores, labels, tags), before)


def test_a_text_without_a_tag_has_the_loss_of_its_label(batch):
    scores, labels, tags = batch
    found = losses(scores, labels, torch.full_like(tags, IGNORED_TAG))
    torch.testing.assert_close(found, cross_entropy(scores.labels, labels, reduction="none"))


def test_without_tags_the_loss_is_that_of_the_label(batch):
    scores, labels, _ = batch
    found = losses(Scores(scores.labels, None), labels, None)
    torch.testing.assert_close(found, cross_entropy(scores.labels, labels, reduction="none"))


@pytest.fixture
def chained(batch):
    scores, labels, tags = batch
    chain = ChainScores(torch.randn(6, 6), torch.randn(6), torch.randn(6))
    return scores._replace(chain=chain), labels, tags


def test_in_a_chain_the_loss_is_that_of_the_sequence_divided_by_the_texts_own_words(chained):
    scores, labels, tags = chained
    by_text = cross_entropy(scores.labels, labels, reduction="none")
    expected = by_text - log_likelihoods(scores.tags, scores.chain, tags) / torch.tensor(LENGTHS)
    torch.testing.assert_close(losses(*chained), expected)


def test_a_chain_that_joins_nothing_has_the_loss_of_independent_tags(batch):
    scores, labels, tags = batch
    nothing = ChainScores(torch.zeros(6, 6), torch.zeros(6), torch.zeros(6))
    torch.testing.assert_close(losses(scores._replace(chain=nothing), labels, tags), losses(*batch))


def test_in_a_chain_padding_and_tokens_that_begin_no_word_change_no_loss(chained):
    scores, labels, tags = chained
    tags[0, 2] = IGNORED_TAG
    before = losses(scores, labels, tags)
    scores.tags[0, 2] += 100 * torch.arange(6)
    wider = scores._replace(tags=pad(scores.tags, (0, 0, 0, 7), value=3.0))
    torch.testing.assert_close(losses(wider, labels, pad(tags, (0, 9), value=IGNORED_TAG)), before)
    nothing = losses(scores, labels, torch.full_like(tags, IGNORED_TAG))
    torch.testing.assert_close(nothing, cross_entropy(scores.labels, labels, reduction="none"))


@pytest.mark.parametrize("tags", [False, True])
def test_the_objective_of_some_rows_is_theirs(model_settings, texts, tags):
    table = texts(12, tags=tags)
    known = vocabulary(table)
    some = examples(table, model_settings(), known)
    rows = torch.tensor([9, 2, 2])
    draws = torch.Generator().manual_seed(0)
    by_word = torch.randn(3, some.text.ids.shape[1], len(known.tags), generator=draws) if tags else None
    scores = Scores(torch.randn(3, len(known.labels), generator=draws), by_word)
    expected = losses(scores, some.labels[rows], some.tags[rows] if tags else None)
    model = files.build(model_settings(), known.labels, known.tags, seed=0)
    assert torch.equal(model.objective(some)(scores, rows), expected)
