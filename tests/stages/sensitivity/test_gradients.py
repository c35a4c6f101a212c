import numpy as np
import pytest
import torch
from captum.attr import Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stages.models import files
from stages.models.classifier import Scores
from stages.models.encoders import EncodedText
from stages.models.examples import vocabulary
from stages.models.kinds import examples
from stages.sensitivity.gradients import jacobian, sensitivity

HEADS = ("mean", "mean, tags", "bilstm", "bert", "characters")


@pytest.fixture(params=HEADS)
def case(request, model_settings, texts):
    """A classifier of three labels in eval mode and 12 encoded texts of 1 to 9 words."""
    changes = {"head": "bilstm", "hidden": 5} if request.param == "bilstm" else {}
    if request.param == "bert":
        changes = {"encoder": request.getfixturevalue("bert"), "hidden": 0}
    if request.param == "characters":
        changes = request.getfixturevalue("tagger")
    built, table = model_settings(**changes), texts(12, tags := request.param == "mean, tags")
    known = vocabulary(table)
    model = files.build(built, known.labels, known.tags, seed=0).eval()
    assert bool(known.tags) == tags
    # As far apart as those of a trained model, so that classes differ.
    with torch.no_grad():
        model.labels.weight.mul_(5)
    return model, examples(table, built, known).text


class Features(nn.Module):
    """Tokens are features of one number each; scores are linear in them, or go through a layer."""

    def __init__(self, values, weights, hidden=None):
        super().__init__()
        self.values, self.hidden = torch.as_tensor(values).double(), hidden
        self.labels = nn.Linear(1, len(weights))
        self.weights = nn.Parameter(torch.as_tensor(weights).double())
        self.device = torch.device("cpu")

    def embed(self, ids):
        return self.values[ids.long()][..., None]

    def score_embeddings(self, vectors, lengths):
        assert len(lengths) == len(vectors)
        given = vectors[..., 0]
        if self.hidden is not None:
            given = torch.tanh(given @ self.hidden)
        return Scores(given @ self.weights.T, None)


def features(n):
    return EncodedText(torch.arange(n)[None], torch.tensor([n]), torch.full((1, n), -1))


def test_the_card_s_logistic_model():
    found = jacobian(Features([1.0, 0.5], [[2.0, -1.0], [0.0, 0.0]]), features(2), "all")
    assert found.probabilities[0, 0] == pytest.approx(0.817574, abs=1e-6)
    for weights, expected in (((1, 0), 0.298293), ((1, 1), 0.447439), ((0.5, 0.5), 0.223720)):
        for w in ((1, 0), (0, 1), (0.5, 0.5)):
            p = sensitivity(np.array(w), found.norms, np.array([weights]))
            assert p == pytest.approx([expected], abs=1e-6)


def test_the_card_s_softmax_model():
    model = Features([0.5, -0.5], [[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    found = jacobian(model, features(2), "all")
    expected = [[0.320027, 0.320027], [0.082873, 0.237154], [0.237154, 0.082873]]
    np.testing.assert_allclose(found.norms[0], expected, atol=1e-6)
    explicit = np.array([[1.0, 0.0]])
    assert sensitivity(np.full(3, 1 / 3), found.norms, explicit) == pytest.approx([0.213351], abs=1e-6)
    predicted = jacobian(model, features(2))
    assert predicted.predicted.tolist() == [0]
    assert sensitivity(np.ones(1), predicted.norms, explicit) == pytest.approx([0.320027], abs=1e-6)


@pytest.mark.parametrize("output", ["probability", "log_odds"])
def test_two_layers_against_central_differences_in_float64(output):
    draws = torch.Generator().manual_seed(0)
    values, hidden = (torch.randn(size, generator=draws, dtype=torch.float64) for size in ((5,), (5, 7)))
    model = Features(values, torch.randn(4, 7, generator=draws, dtype=torch.float64), hidden)
    found = jacobian(model, features(5), "all", output).norms[0]

    def outputs(at, by):
        moved = values.clone()
        moved[at] += by
        p = torch.softmax(torch.tanh(moved @ hidden) @ model.weights.T, dim=0)
        return p if output == "probability" else torch.log(p) - torch.log1p(-p)

    for token in range(5):
        expected = (outputs(token, 1e-5) - outputs(token, -1e-5)).abs() / 2e-5
        np.testing.assert_allclose(found[:, token], expected.detach(), rtol=1e-6)


@pytest.mark.parametrize("output", ["probability", "log_odds"])
def test_norms_are_those_of_finite_differences(case, output):
    model, text = case
    found = jacobian(model, text, "all", output)
    model = model.double()
    for row in range(6):
        lengths = text.lengths[[row]]
        with torch.no_grad():
            vectors = model.embed(text.ids[[row], : int(lengths)])

        def outputs(moved, lengths=lengths):
            with torch.no_grad():
                p = torch.softmax(model.score_embeddings(moved, lengths).labels, dim=1)[0]
            return p if output == "probability" else torch.log(p) - torch.log1p(-p)

        for token in range(int(lengths)):
            slopes = []
            for dimension in range(vectors.shape[2]):
                moved = torch.zeros_like(vectors)
                moved[0, token, dimension] = 1e-5
                slopes.append((outputs(vectors + moved) - outputs(vectors - moved)) / 2e-5)
            for norms, order in ((found.norms, 2), (found.sums, 1)):
                expected = torch.linalg.vector_norm(torch.stack(slopes), order, dim=0)
                np.testing.assert_allclose(norms[row, :, token], expected, rtol=1e-3, atol=1e-7)
            assert found.lengths[row, token] == pytest.approx(float(vectors[0, token].norm()), rel=1e-5)


def test_norms_are_the_gradients_that_captum_takes(case):
    model, text = case
    found = jacobian(model, text, "all")

    def outputs(vectors, lengths):
        return torch.softmax(model.score_embeddings(vectors, lengths).labels, dim=1)

    for row in range(4):
        vectors = model.embed(text.ids[[row], : int(text.lengths[row])]).detach()
        for k in range(3):
            vectors.requires_grad_()
            gradients = Saliency(outputs).attribute(
                vectors, target=k, abs=False, additional_forward_args=(text.lengths[[row]],)
            )
            expected = gradients.norm(dim=2)[0].detach().numpy()
            np.testing.assert_allclose(found.norms[row, k, : len(expected)], expected, rtol=1e-4, atol=1e-8)


def test_classes_differ_and_signed_gradients_of_all_would_sum_to_nothing(case):
    model, text = case
    found = jacobian(model, text, "all")
    first, second = found.norms[:, 0], found.norms[:, 1]
    assert (np.abs(first - second).max(axis=1) > 1e-4 * first.max(axis=1)).all()
    vectors = model.embed(text.ids[[0]]).detach().requires_grad_()
    total = torch.softmax(model.score_embeddings(vectors, text.lengths[[0]]).labels, dim=1).sum()
    assert torch.autograd.grad(total, vectors)[0].abs().max() < 1e-6
    assert found.norms[0].max() > 1e-3


def test_the_predicted_class_is_that_row_of_all(case):
    model, text = case
    everything = jacobian(model, text, "all")
    one = jacobian(model, text, "predicted")
    assert one.norms.shape[1] == 1
    np.testing.assert_allclose(one.norms[:, 0], everything.norms[np.arange(12), one.predicted], rtol=1e-6)


def test_padding_and_the_rest_of_the_batch_change_nothing(case):
    model, text = case
    found = jacobian(model, text, "all")
    pad = nn.functional.pad
    longer = EncodedText(pad(text.ids, (0, 20)), text.lengths, pad(text.words, (0, 20), value=-1))
    width = text.ids.shape[1]
    np.testing.assert_array_equal(jacobian(model, longer, "all").norms[..., :width], found.norms)
    assert not jacobian(model, longer, "all").norms[..., width:].any()
    for row in range(12):
        alone = jacobian(model, text[[row]], "all")
        np.testing.assert_allclose(alone.norms[0], found.norms[row], rtol=1e-3, atol=1e-6)
        assert not found.norms[row, :, int(text.lengths[row]) :].any()
        assert not found.lengths[row, int(text.lengths[row]) :].any()


def test_the_model_is_left_as_it_was(case):
    model, text = case
    model.train()
    before = torch.get_rng_state()
    with torch.no_grad():
        found = jacobian(model, text, "all")
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    # And dropout is off.
    np.testing.assert_array_equal(found.norms, jacobian(model.eval(), text, "all").norms)


def test_a_feature_that_the_output_does_not_depend_on_has_no_part(case):
    found = jacobian(Features([0.3, 0.7, -1.0], [[1.0, 0.0, 2.0], [0.5, 0.0, 1.0]]), features(3), "all")
    explicit = np.array([[0.0, 1.0, 0.0]])
    assert sensitivity(np.full(2, 0.5), found.norms, explicit) == [0.0]
    # Where it does depend on it, it has: the same output of another weight.
    other = jacobian(Features([0.3, 0.7, -1.0], [[1.0, 0.1, 2.0], [0.5, 0.0, 1.0]]), features(3), "all")
    assert sensitivity(np.full(2, 0.5), other.norms, explicit) > 1e-3


def test_ones_bound_how_fast_the_output_changes_nearby(case):
    """With v of ones, P of a class is a Lipschitz constant for the largest shift of any token, along a segment."""
    model, text = case
    model = model.double()
    draws = torch.Generator().manual_seed(1)
    for row in range(6):
        lengths = text.lengths[[row]]
        start = model.embed(text.ids[[row], : int(lengths)]).detach()
        move = torch.randn(start.shape, generator=draws, dtype=torch.float64)
        largest = float(move.norm(dim=2).max())
        steps, before, bound = 200, None, 0.0
        for step in range(steps + 1):
            at = (start + move * step / steps).requires_grad_()
            p = torch.softmax(model.score_embeddings(at, lengths).labels, dim=1)[0, 0]
            before = p.item() if step == 0 else before
            bound = max(bound, float(torch.autograd.grad(p, at)[0].norm(dim=2).sum()))
        assert abs(p.item() - before) <= bound * largest * 1.01


@given(st.integers(0, 1000), st.integers(2, 50), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_it_is_bilinear_and_no_order_counts(seed, classes, length):
    draws = np.random.default_rng(seed)
    norms, w, v = draws.random((3, classes, length)), draws.random((3, classes)), draws.random((3, length))
    found = sensitivity(w, norms, v)
    np.testing.assert_allclose(sensitivity(2 * w, norms, 3 * v), 6 * found)
    by_class, by_token = draws.permutation(classes), draws.permutation(length)
    np.testing.assert_allclose(sensitivity(w[:, by_class], norms[:, by_class], v), found)
    np.testing.assert_allclose(sensitivity(w, norms[..., by_token], v[:, by_token]), found)
    one = [sum(w[0, k] * norms[0, k, i] * v[0, i] for k in range(classes) for i in range(length))]
    assert found[0] == pytest.approx(one[0])


def test_fifty_classes_and_texts_of_one_token(model_settings):
    model = files.build(model_settings(), [f"l{k}" for k in range(50)], [], seed=0)
    text = EncodedText(torch.tensor([[5, 0], [6, 7]]), torch.tensor([1, 2]), torch.full((2, 2), -1))
    found = jacobian(model, text, "all")
    assert found.norms.shape == (2, 50, 2)
    assert (found.norms[0, :, 0] > 0).all()
    assert not found.norms[0, :, 1].any()


def test_rescaled_vectors_change_raw_norms_and_not_scaled_ones():
    weights = [[1.0, 0.4, 2.0], [0.5, -1.0, 1.0]]
    found = jacobian(Features([0.3, 0.7, -1.0], weights), features(3), "all")
    rescaled = jacobian(Features(10 * torch.tensor([0.3, 0.7, -1.0]), torch.tensor(weights) / 10), features(3), "all")
    np.testing.assert_allclose(rescaled.norms, found.norms / 10, rtol=1e-6)
    np.testing.assert_allclose(
        rescaled.norms * rescaled.lengths[:, None], found.norms * found.lengths[:, None], rtol=1e-6
    )


def test_a_constant_of_all_scores_changes_nothing_and_a_factor_does(model_settings, texts):
    built, table = model_settings(hidden=0), texts(5)
    known = vocabulary(table)
    model = files.build(built, known.labels, [], seed=0).eval()
    text = examples(table, built, known).text
    found = jacobian(model, text, "all")
    with torch.no_grad():
        model.labels.bias.add_(3.0)
    np.testing.assert_allclose(jacobian(model, text, "all").norms, found.norms, rtol=1e-5)
    with torch.no_grad():
        model.labels.weight.mul_(2)
    assert np.abs(jacobian(model, text, "all").norms - found.norms).max() > 0.05 * found.norms.max()


@pytest.mark.parametrize("logit", [0.0, 2.0, 5.0, 10.0])
def test_probabilities_saturate_and_log_odds_do_not(logit):
    model = Features([logit], [[1.0], [0.0]])
    p = 1 / (1 + np.exp(-logit))
    assert jacobian(model, features(1), "all").norms[0, 0, 0] == pytest.approx(p * (1 - p))
    assert jacobian(model, features(1), "all", "log_odds").norms[0, 0, 0] == pytest.approx(1.0)
