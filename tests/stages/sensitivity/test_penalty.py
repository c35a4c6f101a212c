import numpy as np
import pytest
import torch

from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples
from stages.sensitivity.gradients import jacobian, sensitivity
from stages.sensitivity.penalty import penalised, slopes


@pytest.fixture(params=["mean", "bilstm", "bert"])
def case(request, model_settings, texts):
    """A classifier in float64, 12 encoded texts and weights of their tokens."""
    changes = {"head": "bilstm", "hidden": 5} if request.param == "bilstm" else {"dropout": 0.5}
    if request.param == "bert":
        changes = {"encoder": request.getfixturevalue("bert"), "hidden": 0}
    built, table = model_settings(**changes), texts(12)
    known = vocabulary(table)
    model = files.build(built, known.labels, [], seed=0).double()
    with torch.no_grad():
        model.labels.weight.mul_(5)
    text = examples(table, built, known).text
    inside = np.arange(text.ids.shape[1]) < text.lengths.numpy()[:, None]
    drawn = np.random.default_rng(0).random(inside.shape) * inside
    return model, text, drawn / drawn.sum(axis=1, keepdims=True)


def twice_differentiated(model, text, weights):
    """P, with a gradient that goes through the gradient."""
    model.eval()
    vectors = model.embed(text.ids).detach().requires_grad_()
    p = torch.softmax(model.score_embeddings(vectors, text.lengths).labels, dim=1)
    [gradient] = torch.autograd.grad(p.max(dim=1).values.sum(), vectors, create_graph=True)
    return (torch.linalg.vector_norm(gradient, dim=2) * torch.from_numpy(weights)).sum(dim=1)


def test_the_slopes_are_p(case):
    model, text, weights = case
    found = slopes(model.train(), text.ids, text.lengths, torch.from_numpy(weights))
    assert model.training
    expected = sensitivity(np.ones(1), jacobian(model, text).norms, weights)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-3)


def test_their_gradient_is_that_of_p_differentiated_twice(case):
    model, text, weights = case
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(
        slopes(model, text.ids, text.lengths, torch.from_numpy(weights)).sum(), parameters, allow_unused=True
    )
    if model.recurrent is not None:
        # The LSTM written out has no second gradient; torch's own has.
        model.recurrent.__class__ = torch.nn.LSTM
    expected = torch.autograd.grad(twice_differentiated(model, text, weights).sum(), parameters, allow_unused=True)
    largest = max(float(each.abs().max()) for each in expected if each is not None)
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * largest)


def test_the_penalty_is_added_row_by_row_and_none_is_nothing(case):
    model, text, weights = case
    rows = torch.tensor([3, 7])

    def objective(scores, rows):
        return scores[rows]

    assert penalised(model, objective, text, weights, 0.0) is objective
    losses = torch.arange(12, dtype=torch.float64)
    total = penalised(model, objective, text, weights, 2.0)(losses, rows)
    of_rows = sensitivity(np.ones(1), jacobian(model, text[rows]).norms, weights[rows])
    np.testing.assert_allclose(total.detach().numpy(), losses[rows].numpy() + 2 * of_rows, rtol=1e-3)


def test_a_text_without_weights_has_no_penalty(case):
    model, text, weights = case
    weights[4] = 0
    found = slopes(model, text.ids, text.lengths, torch.from_numpy(weights))
    assert found[4] == 0
    assert (found.detach().numpy()[np.arange(12) != 4] > 0).all()
