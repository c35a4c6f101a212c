import itertools

import pytest
import torch

from stages.extract import exhaustive, recurrent
from stages.extract.codes import codes

PATTERNS = ["ba be {} bi", "{} ba", "ba {}", "{}"]


@pytest.mark.parametrize("template", PATTERNS)
@pytest.mark.parametrize("alphabet", [["ka", "ke", "ki"], ["ka-ke", "ki-ke", "fu-lu"]])
@pytest.mark.parametrize("label_knowledge", [True, False])
def test_all_losses_are_those_of_a_loop_over_codes(attacked, template, alphabet, label_knowledge, monkeypatch):
    target, _, _ = attacked(label_knowledge, template=template, alphabet=alphabet)
    loop = torch.stack([target.discrete(torch.tensor([code]))[0] for code in itertools.product(range(3), repeat=3)])
    assert recurrent.knows(target.model)
    # A chunk is all codes, those with the same first word, those with the same first two, and one.
    for chunk in (27, 9, 5, 1):
        monkeypatch.setattr(recurrent, "CHUNK", chunk)
        torch.testing.assert_close(exhaustive.all_losses(target), loop, rtol=0, atol=1e-6)
    torch.testing.assert_close(exhaustive.whole(target, batch=10), loop, rtol=0, atol=1e-6)


@pytest.mark.parametrize("label_knowledge", [True, False])
def test_codes_are_scored_with_a_chain_over_tags(attacked, label_knowledge):
    target, fitted, _ = attacked(label_knowledge, model={"tagger": "crf"})
    for part in fitted.classifier.chain.parameters():
        torch.nn.init.normal_(part)
    found = exhaustive.all_losses(target)
    assert found.std() > 1e-4
    rows = torch.arange(125)
    one_by_one = torch.cat([target.discrete(codes(row[None], 3, 5)) for row in rows])
    torch.testing.assert_close(found, one_by_one, rtol=0, atol=1e-5)
    torch.testing.assert_close(exhaustive.whole(target), found, rtol=0, atol=1e-5)
    certain = torch.nn.functional.one_hot(codes(rows, 3, 5), 5).float()
    torch.testing.assert_close(target.relaxed(certain), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", [{"head": "mean"}, {"layers": 2}])
def test_other_models_read_each_code_whole(attacked, model):
    target, _, _ = attacked(model=model)
    assert not recurrent.knows(target.model)
    found = exhaustive.all_losses(target)
    rows = torch.tensor([0, 1, 24, 77, 124])
    torch.testing.assert_close(found[rows], target.discrete(codes(rows, 3, 5)), rtol=0, atol=1e-6)
    assert len(found) == 125


def test_the_model_is_not_changed(attacked):
    target, fitted, _ = attacked()
    layer, before = fitted.classifier.recurrent, [tensor.clone() for tensor in fitted.classifier.parameters()]
    exhaustive.all_losses(target)
    assert fitted.classifier.recurrent is layer
    assert all(map(torch.equal, fitted.classifier.parameters(), before))


def test_a_secret_of_one_word(attacked):
    target, _, _ = attacked(length=1)
    torch.testing.assert_close(exhaustive.all_losses(target), target.discrete(torch.arange(5)[:, None]))
