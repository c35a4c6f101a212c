import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.models import files
from stages.models.crf import ChainScores, log_marginals
from stages.models.encoders import IGNORED_TAG
from stages.models.evaluate import predict
from stages.models.examples import vocabulary
from stages.models.kinds import examples
from stages.models.signals import signals


@pytest.fixture(params=[False, True], ids=["labels", "labels and tags"])
def scored(request, model_settings, texts):
    table = texts(150, tags=request.param)
    known = vocabulary(table)
    pool = examples(table, model_settings(), known)
    model = files.build(model_settings(), known.labels, known.tags, 0)
    with torch.no_grad():
        return model, pool, model(*model.inputs(pool.text)), signals(model, pool)


def test_the_label_signal_is_the_log_probability_of_the_true_label(scored):
    _, pool, scores, found = scored
    losses = cross_entropy(scores.labels.double(), pool.labels, reduction="none").numpy()
    np.testing.assert_allclose(found.log_probability["label"], -losses)
    p = np.exp(-losses)
    np.testing.assert_allclose(found.logit["label"], np.log(p / (1 - p)))


def test_the_tag_signal_is_the_mean_over_the_words_of_the_text(scored):
    _, pool, scores, found = scored
    if scores.tags is None:
        assert set(found.logit) == set(found.log_probability) == {"label"}
        return
    for row in range(10):
        known = pool.tags[row, : scores.tags.shape[1]] != IGNORED_TAG
        wanted = torch.log_softmax(scores.tags[row].double(), dim=1)[known, pool.tags[row, : len(known)][known]]
        assert found.log_probability["tags"][row] == pytest.approx(float(wanted.mean()))
        odds = (wanted - torch.log1p(-wanted.exp())).mean()
        assert found.logit["tags"][row] == pytest.approx(float(odds))


def test_in_a_chain_the_tag_signal_is_the_mean_of_the_marginals_of_the_texts_own_words(model_settings, texts, tagger):
    table, settings = texts(30, tags=True), model_settings(**tagger)
    known = vocabulary(table)
    pool, model = examples(table, settings, known), files.build(settings, known.labels, known.tags, 0)
    torch.nn.init.normal_(model.chain.transitions)
    found = signals(model, pool)
    with torch.no_grad():
        scores = model.eval()(*model.inputs(pool.text))
    chain = ChainScores(*(part.detach().double() for part in scores.chain))
    marginals = log_marginals(scores.tags.double(), chain, pool.text.words >= 0)
    for row in range(30):
        length = len(table["tokens"][row])
        own = marginals[row, torch.arange(length), pool.tags[row, :length]]
        # Of a text of other length the sums are of other products of matrices.
        assert found.log_probability["tags"][row] == pytest.approx(float(own.mean()), rel=1e-5)
        odds = (own - torch.log1p(-own.exp())).mean()
        assert found.logit["tags"][row] == pytest.approx(float(odds), rel=1e-5)


def test_a_model_that_is_sure_has_finite_logits(scored):
    model, pool, _, _ = scored
    with torch.no_grad():
        model.labels.weight.mul_(1e4)
    assert np.isfinite(signals(model, pool).logit["label"]).all()


def test_what_is_correct_is_what_is_predicted(scored):
    model, pool, _, found = scored
    assert (found.correct == (predict(model, pool).labels == pool.labels.numpy())).all()
