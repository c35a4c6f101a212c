import pytest
import torch

from stages.extract import exhaustive, token_search
from stages.extract.ranking import rank
from stages.extract.target import target
from stages.extract.trial import trial_of_classifier
from stages.models.classifier import losses


@pytest.fixture
def by_label(attacked):
    """What is attacked by the label alone, the model and the secret."""
    _, fitted, secret = attacked()
    return target(fitted, secret, label_knowledge=True, signal="label"), fitted, secret


def test_the_loss_is_of_the_label_alone(by_label):
    found, fitted, secret = by_label
    code = torch.tensor([secret.code])
    states = found.context.repeat(1, 1, 1)
    states[:, found.places] = found.candidates[torch.arange(3), code]
    scores = fitted.classifier.score(states, torch.tensor([len(found.context)]))
    torch.testing.assert_close(found.discrete(code), losses(scores, found.label, None))
    joint = target(fitted, secret, label_knowledge=True)
    assert not torch.allclose(joint.discrete(code), found.discrete(code))


def test_the_answer_is_one_that_no_single_word_betters(by_label, tokens):
    found, _, _ = by_label
    answer = token_search.attack(found, tokens(passes=50, starts=5), seed=0)
    every = exhaustive.all_losses(found).view(5, 5, 5)
    own = every[answer.code]
    assert answer.loss == pytest.approx(float(own), abs=1e-6)
    for word in range(3):
        line = [slice(None) if place == word else answer.code[place] for place in range(3)]
        assert (every[tuple(line)] >= own - 1e-6).all()
    assert 15 <= answer.visited <= 125
    assert answer.steps < 50


def test_many_starts_find_the_oracles_code(by_label, tokens):
    found, _, _ = by_label
    answer = token_search.attack(found, tokens(starts=60), seed=0)
    assert answer.loss == pytest.approx(float(exhaustive.all_losses(found).min()), abs=1e-6)


def test_a_trial_ranks_the_secret_by_the_label(by_label, tokens, gradients):
    found, fitted, secret = by_label
    trial = trial_of_classifier(fitted, secret, tokens(), seed=0)
    index = int(torch.tensor(secret.code) @ torch.tensor([25, 5, 1]))
    assert trial.rank == rank(exhaustive.all_losses(found), index)
    assert trial.answer_loss >= trial.oracle_loss
    other = trial_of_classifier(fitted, secret, gradients(), seed=0)
    assert other.secret_loss != trial.secret_loss


@pytest.mark.parametrize("label_knowledge", [True, False])
def test_the_recurrent_oracle_agrees_by_label_too(attacked, label_knowledge):
    _, fitted, secret = attacked(label_knowledge)
    found = target(fitted, secret, label_knowledge, signal="label")
    torch.testing.assert_close(exhaustive.all_losses(found), exhaustive.whole(found), rtol=0, atol=1e-6)
