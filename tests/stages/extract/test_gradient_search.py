import pytest
import torch

from stages.extract import exhaustive, gradient_search
from stages.extract.gradient_search import attack, search


@pytest.mark.parametrize("changes", [{}, {"gumbel": True}, {"temperature": 0.3}, {"label_knowledge": False}])
def test_the_answer_is_the_best_code_visited_and_never_below_the_oracles(attacked, gradients, changes):
    settings = gradients(**changes)
    target, _, _ = attacked(settings.label_knowledge)
    found = attack(target, settings, seed=5)
    own = target.discrete(torch.tensor([found.code])).item()
    assert found.loss == pytest.approx(own, abs=1e-6)
    losses = exhaustive.all_losses(target)
    assert found.loss >= losses.min().item() - 1e-6
    # Better than most: gradients lead somewhere.
    assert (losses < found.loss).float().mean() < 0.2
    assert 0 < found.visited <= settings.starts * (found.steps + 1)


def test_the_model_stays_as_it_is_and_dropout_is_off(attacked, gradients):
    target, fitted, _ = attacked()
    before = [tensor.clone() for tensor in fitted.classifier.parameters()]
    first = attack(target, gradients(), seed=1)
    # With dropout, which is 0.3 here, two runs would differ.
    torch.manual_seed(12)
    assert attack(target, gradients(), seed=1) == first
    assert not any(module.training for module in fitted.classifier.modules())
    assert all(map(torch.equal, fitted.classifier.parameters(), before))
    assert all(tensor.grad is None for tensor in fitted.classifier.parameters())


def test_starts_are_problems_of_their_own(attacked, gradients):
    target, _, _ = attacked()
    starts = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(2))
    # No one stops before the others: the number of steps is the same.
    settings = gradients(steps=50)
    alone = [search(target, start[None], settings, seed=0) for start in starts]
    together = search(target, starts, settings, seed=0)
    assert together.loss == pytest.approx(min(answer.loss for answer in alone), abs=1e-6)
    assert together.code in {answer.code for answer in alone}


def test_more_starts_keep_the_first_starts(attacked, gradients, monkeypatch):
    seen = []
    monkeypatch.setattr(gradient_search, "search", lambda *arguments: seen.append(arguments[1]))
    target, _, _ = attacked()
    for starts in (2, 5):
        attack(target, gradients(starts=starts), seed=1)
    assert torch.equal(seen[0], seen[1][:2])


def test_the_search_ends_when_no_answer_moves(attacked, gradients, monkeypatch):
    monkeypatch.setattr(gradient_search, "PATIENCE", 7)
    target, _, _ = attacked()
    found = attack(target, gradients(learning_rate=1e-9, steps=500), seed=0)
    assert found.steps == 7
    assert found.visited <= 3
