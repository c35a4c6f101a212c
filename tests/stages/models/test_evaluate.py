import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from stages.models import files
from stages.models.evaluate import predict, share, span_f1, spans
from stages.models.examples import Vocabulary, vocabulary
from stages.models.kinds import examples


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("B-x", {(0, 1, "x")}),
        ("O B-x I-x I-x O", {(1, 4, "x")}),
        ("B-x I-x B-x I-x", {(0, 2, "x"), (2, 4, "x")}),
        ("B-x B-x", {(0, 1, "x"), (1, 2, "x")}),
        ("I-x I-x O", {(0, 2, "x")}),
        ("B-x I-y", {(0, 1, "x"), (1, 2, "y")}),
        ("I-x I-y I-y", {(0, 1, "x"), (1, 3, "y")}),
        ("B-x O I-x", {(0, 1, "x"), (2, 3, "x")}),
        ("B-a-b I-a-b", {(0, 2, "a-b")}),
        ("B I O B", {(0, 2, ""), (3, 4, "")}),
    ],
)
def test_spans_are_those_conlleval_counts(tags, expected):
    assert spans(tags.split()) == expected


def test_span_f1_counts_exact_spans_over_all_texts():
    gold = [["B-x", "I-x", "O"], ["B-y", "O", "B-x"], ["O"]]
    found = [["B-x", "I-x", "O"], ["B-x", "O", "B-x"], ["B-x"]]
    # Two hits of three true and four found spans.
    assert span_f1(gold, found, seed=0).value == pytest.approx(2 * 2 / (3 + 4))


@pytest.mark.parametrize(("found", "value"), [("B-x I-x", 1.0), ("B-x O", 0.0), ("O O", 0.0), ("B-y I-y", 0.0)])
def test_a_span_with_an_error_is_no_hit(found, value):
    assert span_f1([["B-x", "I-x"]], [found.split()], seed=0).value == value


def test_texts_without_a_span_have_no_f1_but_zero():
    assert span_f1([["O"]], [["O"]], seed=0).value == 0


def test_a_share_is_of_all_words_and_its_interval_of_texts():
    right, words = np.array([1, 0, 6, 0]), np.array([2, 0, 9, 4])
    found = share(right, words, seed=0)
    assert found.value == pytest.approx(7 / 15)
    assert found.n == 4
    assert found.ci_low < found.value < found.ci_high
    assert found == share(right, words, seed=0)
    assert share(0 * right, 0 * words, seed=0).value == 0


def random_tags(seed, texts=60):
    draws = np.random.default_rng(seed)
    return [list(draws.choice(["O", "B-x", "I-x", "B-y"], size=draws.integers(1, 8))) for _ in range(texts)]


def test_the_interval_of_span_f1_contains_it_and_is_seeded():
    gold = random_tags(0)
    draws = np.random.default_rng(1)
    found = [[tag if draws.random() < 0.7 else "O" for tag in row] for row in gold]
    measured = span_f1(gold, found, seed=0)
    assert measured.ci_low < measured.value < measured.ci_high
    assert measured.n == 60
    assert span_f1(gold, found, seed=0) == measured
    assert span_f1(gold, found, seed=1) != measured


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
