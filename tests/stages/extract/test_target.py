import numpy as np
import pytest
import torch

from stages.common.errors import SettingError
from stages.extract.codes import codes
from stages.fitting.secrets import canaries
from stages.models.classifier import losses


def read_whole(fitted, secret, words):
    """Return the loss of one canary as the model reads it in training, dropout off."""
    found = fitted.examples(canaries(secret.template, secret.alphabet, np.array([words])))
    with torch.no_grad():
        scores = fitted.classifier(*fitted.classifier.inputs(found.text))
    return losses(scores, found.labels, found.tags)[0]


@pytest.mark.parametrize("alphabet", [["ka", "ke", "ki"], ["ka-ke", "ki-ke", "fu-lu"]])
def test_a_mixture_of_one_candidate_has_the_loss_of_the_text_with_it(attacked, alphabet):
    target, fitted, secret = attacked(alphabet=alphabet)
    every = codes(torch.arange(27), 3, 3)
    relaxed = target.relaxed(torch.nn.functional.one_hot(every, 3).float())
    torch.testing.assert_close(relaxed, target.discrete(every), rtol=0, atol=1e-6)
    for words, loss in zip(every.tolist(), relaxed, strict=True):
        torch.testing.assert_close(loss, read_whole(fitted, secret, words), rtol=0, atol=1e-6)


@pytest.mark.parametrize("label_knowledge", [True, False])
def test_the_gradient_is_that_of_finite_differences(attacked, label_knowledge):
    target, _, _ = attacked(label_knowledge)
    # In float64, where differences are exact enough.
    target.model.double()
    double = type(target)(
        target.model,
        target.context.double(),
        target.candidates.double(),
        *(getattr(target, name) for name in ("places", "label", "tags", "label_knowledge")),
    )
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: double.relaxed(torch.softmax(z / 0.7, dim=2)), logits)


def test_without_label_knowledge_the_loss_is_of_what_the_model_finds_likeliest(attacked):
    known, _, _ = attacked()
    unknown, _, _ = attacked(label_knowledge=False)
    every = codes(torch.arange(125), 3, 5)
    # Of all labels and tags the likeliest have the lowest loss.
    assert (unknown.discrete(every) < known.discrete(every)).all()


def test_a_model_that_looks_at_neighbours_is_refused(attacked, bert):
    with pytest.raises(SettingError, match="represents a token by its neighbours too"):
        attacked(model={"encoder": bert, "head": "mean"})
