from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stages.common.errors import SettingError
from stages.invert.client import client, encoder, marks, others, update
from stages.invert.distances import DISTANCES
from stages.invert.reading import bag, ordered, precision_and_recall
from stages.invert.reconstruction import measure, pairs, reconstruct
from stages.invert.search import Problem, search
from stages.invert.settings import InvertSettings
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.fitted import FittedModel
from stages.privacy.noise import Noise
from stages.privacy.references import Loop


@pytest.fixture
def settings():
    """Return a function that makes settings of a short attack."""

    def make(**changes):
        usual = {"dataset": "trees", "seeds": [0], "target": "clients", "texts": 2}
        search = {"steps": 75, "learning_rate": 0.05, "starts": 3}
        return InvertSettings.model_validate(usual | search | changes)

    return make


@pytest.fixture
def attacked(model_settings, texts, bert):
    """Return a function that makes an untrained model whose embeddings are trained, and short texts."""

    def make(tags=True, **changes):
        trained = bert | {"layers": 1, "trained_embeddings": True}
        model = model_settings(**({"encoder": trained, "hidden": 0} | changes))
        table = texts(120, tags=tags)
        known = vocabulary(table)
        fitted = FittedModel(files.build(model, known.labels, known.tags, seed=3).eval(), model, known, Path())
        return fitted, fitted.examples(table)

    return make


def generator():
    return torch.Generator().manual_seed(0)


def sent_by(fitted, examples, rows):
    return client(examples[np.array(rows)], marks(fitted), fitted.classifier.device)


def distinct(examples, count):
    """Return rows of texts of which no token occurs twice."""
    rows = range(len(examples))
    lengths = examples.text.lengths.tolist()
    ids = examples.text.ids.tolist()
    return [row for row in rows if lengths[row] > 4 and len(set(ids[row][: lengths[row]])) == lengths[row]][:count]


def problem_of(fitted, examples, rows, settings):
    sent = sent_by(fitted, examples, rows)
    seen = update(fitted.classifier, sent, Noise(0), settings.clipping_norm)
    return Problem(fitted.classifier, sent.known, seen.others, torch.arange(4, 34), settings), sent


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("clipping_norm", [None, 0.01])
def test_without_noise_the_bag_is_exactly_the_tokens_of_the_batch(attacked, settings, tags, batch, clipping_norm):
    fitted, examples = attacked(tags)
    for start in range(0, 40, batch):
        sent = sent_by(fitted, examples, range(start, start + batch))
        seen = update(fitted.classifier, sent, Noise(0), clipping_norm)
        true = {token for text in sent.texts(sent.ids) for token in text}
        assert precision_and_recall(set(bag(seen, marks(fitted), None).tolist()), true) == (1, 1)
        assert set(bag(seen, marks(fitted), len(true)).tolist()) == true


def test_noise_hides_the_bag(attacked, settings):
    fitted, examples = attacked()
    sent = sent_by(fitted, examples, range(4))
    true = {token for text in sent.texts(sent.ids) for token in text}
    seen = update(fitted.classifier, sent, Noise(0), clipping_norm=0.1, noise_multiplier=10.0)
    found = bag(seen, marks(fitted), len(true))
    assert len(found) == len(true)
    assert set(found.tolist()) != true
    assert not {0, 2, 3} & set(found.tolist())


def test_the_order_of_a_text_alone_is_read_off(attacked, settings):
    fitted, examples = attacked()
    for row in distinct(examples, 10):
        sent = sent_by(fitted, examples, [row])
        seen = update(fitted.classifier, sent, Noise(0))
        length = sent.ids.shape[1]
        read = ordered(seen, bag(seen, marks(fitted), None), length)
        assert torch.equal(read[1:-1], sent.ids[0, 1:-1])


def test_precision_and_recall_of_bags():
    assert precision_and_recall({1, 2, 3, 4}, {3, 4, 5}) == (0.5, 2 / 3)
    assert precision_and_recall(set(), {3}) == (0, 0)


def test_an_update_is_the_mean_gradient(attacked, settings):
    fitted, examples = attacked()
    model = fitted.classifier
    sent = sent_by(fitted, examples, [3, 7, 9])
    seen = update(model, sent, Noise(0))
    sent.known.losses(model(sent.ids, sent.known.lengths)).mean().backward()
    torch.testing.assert_close(seen.table, encoder(model).table.grad)
    torch.testing.assert_close(seen.others, [parameter.grad for parameter in others(model)])


def test_a_clipped_update_is_the_mean_of_clipped_gradients(attacked, settings):
    fitted, examples = attacked()
    model = fitted.classifier
    sent = sent_by(fitted, examples, [3, 7, 9])
    seen = update(model, sent, Noise(0), clipping_norm=0.5)
    assert all(parameter.grad is None for parameter in model.parameters())

    def losses(rows):
        return sent.known.losses(model(sent.ids, sent.known.lengths))[rows]

    _, norms = Loop(model, 0.5).add_clipped_sum(losses, torch.arange(3))
    assert (norms > 0.5).any()
    torch.testing.assert_close(seen.table, encoder(model).table.grad / 3)
    torch.testing.assert_close(seen.others, [parameter.grad / 3 for parameter in others(model)])


def test_the_server_knows_no_token_between_the_marks(attacked):
    fitted, examples = attacked()
    sent = sent_by(fitted, examples, [0, 1, 2])
    assert (sent.known.ids[sent.known.unknown] == 0).all()
    assert set(sent.known.ids[~sent.known.unknown].tolist()) <= {0, 2, 3}
    assert [len(text) + 2 for text in sent.texts(sent.ids)] == sent.known.lengths.tolist()


@pytest.mark.parametrize("objective", DISTANCES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("clipping_norm", [None, 0.5])
def test_a_distance_is_zero_at_the_truth_and_positive_beside_it(attacked, settings, objective, batch, clipping_norm):
    fitted, examples = attacked()
    rows = distinct(examples, batch)
    problem, sent = problem_of(fitted, examples, rows, settings(objective=objective, clipping_norm=clipping_norm))
    distance, true = DISTANCES[objective], problem.table[sent.ids].requires_grad_()
    beside = (true.detach() + 0.01 * torch.randn(true.shape, generator=generator())).requires_grad_()
    at_truth, at_side = (float(distance(problem.gradients(each), problem.seen)) for each in (true, beside))
    assert abs(at_truth) < 1e-5
    assert at_side > 10 * abs(at_truth)
    # Another order of the same tokens is another text.
    flipped = sent.ids.clone()
    flipped[0, [1, 2]] = flipped[0, [2, 1]]
    assert float(problem.objective(problem.table[flipped])) > float(problem.objective(problem.table[sent.ids]))


@pytest.mark.parametrize("objective", DISTANCES)
@pytest.mark.parametrize("clipping_norm", [None, 0.5])
def test_the_gradient_of_an_objective_is_that_of_finite_differences(attacked, settings, objective, clipping_norm):
    fitted, examples = attacked()
    fitted.classifier.double()
    rows = distinct(examples, 2)
    problem, _ = problem_of(fitted, examples, rows, settings(objective=objective, clipping_norm=clipping_norm))
    shape = (*problem.known.ids.shape, 16)
    vectors = 0.1 * torch.randn(shape, dtype=torch.float64, generator=generator())
    vectors.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: problem.objective(x, differentiable=True), vectors, atol=1e-6, fast_mode=True
    )


def test_the_nearest_tokens_of_their_own_vectors_are_they(attacked, settings):
    fitted, examples = attacked()
    problem, sent = problem_of(fitted, examples, [0, 1, 2], settings())
    # A cosine has no length.
    assert torch.equal(problem.nearest(3 * problem.table[sent.ids]), sent.ids)


@pytest.mark.parametrize("objective", DISTANCES)
def test_texts_come_back_and_those_of_the_control_do_not(attacked, settings, objective):
    fitted, examples = attacked()
    own = measure(reconstruct(fitted, examples, settings(objective=objective), seed=0))
    other = measure(
        reconstruct(fitted, examples, settings(objective=objective, role="control", unrelated=True), seed=0)
    )
    assert own["gradient/bag_recall"].value == own["gradient/bag_precision"].value == 1
    assert other["gradient/bag_recall"].value < 0.7
    assert own["gradient/token_accuracy"].value > 0.9
    assert other["gradient/token_accuracy"].value < 0.4
    assert own["gradient/rouge2"].value > other["gradient/rouge2"].value + 0.4
    assert own["gradient/rouge1"].n == 2


def test_a_batch_of_texts_comes_back(attacked, settings):
    fitted, examples = attacked()
    found = reconstruct(fitted, examples, settings(batch_size=2), seed=1)
    assert {each.client for each in found} == {0}
    measured = measure(found)
    assert measured["gradient/token_accuracy"].value > measured["gradient/chance_token_accuracy"].value + 0.3


def test_the_same_seed_gives_the_same_and_the_model_stays(attacked, settings):
    fitted, examples = attacked()
    before = [tensor.clone() for tensor in fitted.classifier.parameters()]
    short = settings(steps=20, clipping_norm=1.0)
    first, again, other = (reconstruct(fitted, examples, short, seed, noise_multiplier=0.1) for seed in (2, 2, 3))
    assert first == again
    assert first != other
    assert all(map(torch.equal, fitted.classifier.parameters(), before))
    assert all(tensor.grad is None for tensor in fitted.classifier.parameters())


def test_without_the_bag_all_tokens_but_marks_are_candidates(attacked, settings):
    fitted, examples = attacked()
    found = reconstruct(fitted, examples, settings(within_bag=False, steps=1), seed=0)
    assert not any({"[PAD]", "[CLS]", "[SEP]"} & set(each.answer.split()) for each in found)
    within = reconstruct(fitted, examples, settings(steps=1), seed=0)
    assert all(set(each.answer.split()) <= set(each.private.split()) for each in within)
    assert all(each.objective_of_truth >= 0 for each in within)


def test_the_answer_is_never_worse_than_what_was_looked_at_first(attacked, settings):
    fitted, examples = attacked()
    problem, _ = problem_of(fitted, examples, [4], settings(steps=1))
    _, first = search(problem, np.random.default_rng(0))
    longer = replace(problem, settings=settings(steps=60))
    assert search(longer, np.random.default_rng(0))[1] <= first


def test_twins_are_of_one_label_and_length_and_in_one_place(attacked):
    _, examples = attacked()
    private, twins = pairs(examples, 20, seed=5)
    assert len({*private.tolist(), *twins.tolist()}) == 40
    assert torch.equal(examples.labels[private], examples.labels[twins])
    assert torch.equal(examples.text.lengths[private], examples.text.lengths[twins])
    assert pairs(examples, 5, seed=5)[0].tolist() == private[:5].tolist()
    assert pairs(examples, 5, seed=6)[0].tolist() != private[:5].tolist()


def test_more_texts_than_have_a_twin_are_refused(attacked):
    _, examples = attacked()
    with pytest.raises(SettingError, match=r"61 is more than the \d+ of the split that have a twin of the same label"):
        pairs(examples, 61, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": 3, "batch_size": 2}, "texts: 3 are no whole batches of batch_size: 2"),
        ({"noise_multiplier": 0.5}, "noise_multiplier: 0.5 asks for noise, which is in clipping norms and needs clip"),
        ({"epsilon": 8.0, "delta": 1e-5}, "epsilon: 8 asks for noise, which is in clipping norms and needs clipping_n"),
        ({"epsilon": 8.0, "clipping_norm": 1.0}, "epsilon and delta are given together: the noise follows from both"),
        ({"delta": 1e-5, "clipping_norm": 1.0}, "epsilon and delta are given together: the noise follows from both"),
        (
            {"epsilon": 8.0, "delta": 1e-5, "clipping_norm": 1.0, "noise_multiplier": 0.6},
            "epsilon: 8 and noise_multiplier: 0.6 both say how much noise there is: give one of them",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tagger": "crf"}, "Chain has no second gradient"),
        ({"head": "bilstm", "hidden": 4}, "LSTM has no second gradient"),
    ],
)
def test_what_has_no_second_gradient_is_refused(attacked, changes, message):
    fitted, _ = attacked(**changes)
    with pytest.raises(SettingError, match=message):
        encoder(fitted.classifier)


def test_frozen_embeddings_are_refused(attacked, bert):
    for frozen in ({"encoder": bert}, {"encoder": bert | {"trained_layers": 2}}):
        fitted, _ = attacked(**frozen)
        with pytest.raises(SettingError, match="token embeddings are frozen"):
            encoder(fitted.classifier)
