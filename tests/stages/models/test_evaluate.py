import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from stages.models import files
from stages.models.evaluate import predict
from stages.models.examples import Vocabulary, vocabulary
from stages.models.kinds import examples


@pytest.fixture
def tagger(model_settings):
    """Return a model that gives every word the same tag, and its vocabulary."""

    def build(always, tags, **changes):
        settings = model_settings(**changes)
        model = files.build(settings, ["a"], tags, seed=0)
        with torch.no_grad():
            model.tags.weight.zero_()
            model.tags.bias.copy_(torch.tensor([float(tag == always) for tag in tags]))
        return model, settings, Vocabulary(["a"], tags)

    return build


def tagged(words, tags):
    return pd.DataFrame(
        {"example_id": ["e"], "text": [" ".join(words)], "label": "a", "tokens": [words], "tags": [tags]}
    )


def test_words_that_were_cut_off_are_predicted_outside(tagger):
    model, settings, known = tagger("B-x", ["B-x", "O"], max_length=2)
    test = examples(tagged(["ba", "be", "bi"], ["B-x", "B-x", "B-x"]), settings, known)
    # Found: B-x B-x O. Two hits of two found and three true spans.
    assert model.utility(test, known, "test", seed=0)["test/slot_f1"].value == pytest.approx(4 / 5)


def test_only_the_first_token_of_a_word_is_read(tagger):
    model, settings, known = tagger("B-x", ["B-x", "O"])
    test = examples(tagged(["ba-be-bi", "bo"], ["B-x", "B-x"]), settings, known)
    assert predict(model, test).tags[0].tolist() == [0, 0]


def test_a_tag_that_training_never_saw_can_only_be_missed(tagger):
    model, settings, known = tagger("B-x", ["B-x", "O"])
    # The true span has two words; the model finds the first alone.
    test = examples(tagged(["ba", "be"], ["B-x", "I-x"]), settings, known)
    assert model.utility(test, known, "test", seed=0)["test/slot_f1"].value == 0


@pytest.fixture
def classified(model_settings, texts):
    table = texts(300)
    known = vocabulary(table)
    return files.build(model_settings(), known.labels, [], seed=0), examples(table, model_settings(), known), known


def test_accuracy_and_macro_f1_are_scikit_learns(classified):
    model, test, known = classified
    guess, truth = predict(model, test).labels, test.labels.numpy()
    measured = model.utility(test, known, "valid", seed=0)
    assert set(measured) == {"valid/accuracy", "valid/macro_f1"}
    assert measured["valid/accuracy"].value == pytest.approx(accuracy_score(truth, guess))
    assert measured["valid/macro_f1"].value == pytest.approx(
        f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)
    )


def test_predictions_are_normalised_log_probabilities_of_every_text(classified):
    model, test, _ = classified
    found = predict(model, test).label_log_probabilities
    with torch.no_grad():
        logits = model(*model.inputs(test.text)).labels.double()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, (logits - logits.logsumexp(dim=1, keepdim=True)).numpy(), rtol=1e-5, atol=1e-7)


def test_tags_are_those_of_each_texts_own_words(model_settings, texts):
    table, settings = texts(300, tags=True), model_settings(head="bilstm")
    known = vocabulary(table)
    model, test = files.build(settings, known.labels, known.tags, seed=0), examples(table, settings, known)
    found = predict(model, test).tags
    for row in (0, 1, 150, 299):
        with torch.no_grad():
            alone = model(*model.inputs(test.text[[row]])).tags[0].argmax(dim=1)
        assert found[row].tolist() == alone[: len(table["tokens"][row])].tolist()


def test_in_a_chain_the_most_probable_sequence_is_found_over_the_words_alone(model_settings):
    settings = model_settings(tagger="crf")
    model, known = files.build(settings, ["a"], ["B-x", "I-x", "O"], seed=0), Vocabulary(["a"], ["B-x", "I-x", "O"])
    with torch.no_grad():
        model.tags.weight.zero_()
        # Nothing but I-x, unless it must follow a B-x, and nothing begins with it.
        model.tags.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
        model.chain.starts.copy_(torch.tensor([0.0, -9.0, -1.0]))
        model.chain.transitions[1:].fill_(-9.0)
        model.chain.transitions[1, 2] = 0.0
        model.chain.transitions[2, 0] = 0.0
    test = examples(tagged(["ba-be-bi", "bo", "bu", "ba-be", "be"], ["O"] * 5), settings, known)
    assert [known.tags[tag] for tag in predict(model, test).tags[0]] == ["B-x", "I-x", "O", "B-x", "I-x"]
    # One after the other, without the chain.
    model.chain = None
    assert [known.tags[tag] for tag in predict(model, test).tags[0]] == ["I-x"] * 5


@pytest.mark.parametrize("training", [True, False])
def test_prediction_is_without_dropout_and_restores_the_mode(model_settings, texts, training):
    table, settings = texts(20), model_settings(dropout=0.9)
    known = vocabulary(table)
    model, test = files.build(settings, known.labels, [], seed=0).train(training), examples(table, settings, known)
    assert (predict(model, test).label_log_probabilities == predict(model, test).label_log_probabilities).all()
    assert model.training is training
