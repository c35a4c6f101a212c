import pytest
import torch

from stages.models import files
from stages.models.encoders import EncodedText
from stages.models.examples import vocabulary
from stages.models.kinds import examples

HEADS = {
    "pooled": ({"head": "mean"}, False),
    "one layer": ({"head": "mean", "hidden": 0}, False),
    "mean, tags": ({"head": "mean"}, True),
    "bilstm": ({"head": "bilstm"}, False),
    "bilstm, tags": ({"head": "bilstm"}, True),
    "bert": ({"head": "mean"}, False),
    "bert, bilstm, tags": ({"head": "bilstm"}, True),
    "words": ("words", False),
    "words, characters": ("tagger", False),
    "words, characters, chain": ("tagger", True),
}


@pytest.fixture(params=list(HEADS))
def case(request, model_settings, texts):
    """A classifier in eval mode and 16 encoded texts of 1 to 9 words."""
    changes, tags = HEADS[request.param]
    if request.param.startswith("bert"):
        changes = changes | {"encoder": request.getfixturevalue("bert")}
    if changes == "words":
        changes = {"encoder": request.getfixturevalue("words")}
    if changes == "tagger":
        changes = request.getfixturevalue("tagger")
    settings, table = model_settings(**changes, dropout=0.3), texts(16, tags)
    known = vocabulary(table)
    model = files.build(settings, known.labels, known.tags, seed=0).eval()
    return model, examples(table, settings, known).text


def scores(model, text):
    with torch.no_grad():
        return model(*model.inputs(text))


def longer(text, by):
    """Return the same texts with `by` more columns of padding."""
    pad = torch.nn.functional.pad
    return EncodedText(pad(text.ids, (0, by)), text.lengths, pad(text.words, (0, by), value=-1))


def test_a_text_scores_the_same_alone_and_in_a_batch(case):
    model, text = case
    together = scores(model, text)
    for row in range(16):
        alone = scores(model, text[[row]])
        torch.testing.assert_close(alone.labels[0], together.labels[row], rtol=1e-4, atol=1e-6)
        if together.tags is not None:
            length = int(text.lengths[row])
            torch.testing.assert_close(alone.tags[0, :length], together.tags[row, :length], rtol=1e-4, atol=1e-6)


def test_more_padding_changes_no_bit(case):
    model, text = case
    for some, more in zip(scores(model, text)[:2], scores(model, longer(text, 5))[:2], strict=True):
        assert (some is None and more is None) or torch.equal(some, more)


def test_the_order_of_a_batch_is_the_order_of_its_scores(case):
    model, text = case
    turned = torch.arange(15, -1, -1)
    straight, reversed_ = scores(model, text), scores(model, text[turned])
    torch.testing.assert_close(straight.labels[turned], reversed_.labels, rtol=1e-4, atol=1e-6)
    if straight.tags is not None:
        torch.testing.assert_close(straight.tags[turned], reversed_.tags, rtol=1e-4, atol=1e-6)


def test_pooling_once_in_advance_scores_like_pooling_in_every_step(model_settings, texts):
    settings, table = model_settings(), texts(300)
    known = vocabulary(table)
    model = files.build(settings, known.labels, [], seed=0).eval()
    text = examples(table, settings, known).text
    in_advance = scores(model, text)
    model.pooled_inputs = False
    torch.testing.assert_close(scores(model, text).labels, in_advance.labels)


def test_the_mean_head_sees_the_mean_of_its_own_tokens(model_settings):
    model = files.build(model_settings(hidden=0), ["a", "b"], [], seed=0).eval()
    ids = torch.tensor([[4, 7, 9, 0], [5, 0, 0, 0]], dtype=torch.int32)
    text = EncodedText(ids, torch.tensor([3, 1]), torch.full((2, 4), -1))
    table = model.encoder.table
    means = torch.stack([table[[4, 7, 9]].mean(dim=0), table[5]])
    torch.testing.assert_close(scores(model, text).labels, means @ model.labels.weight.T + model.labels.bias)


def test_words_pooled_once_in_advance_score_like_words_pooled_in_every_step(model_settings, texts, words):
    settings, table = model_settings(encoder=words), texts(30)
    model = files.build(settings, vocabulary(table).labels, [], seed=0).eval()
    text = examples(table, settings, vocabulary(table)).text
    assert model.pooled_inputs
    in_advance = scores(model, text)
    model.pooled_inputs = False
    torch.testing.assert_close(scores(model, text).labels, in_advance.labels)


def test_trained_characters_are_never_pooled_in_advance(model_settings, tagger):
    model = files.build(model_settings(**(tagger | {"head": "mean"})), ["a", "b"], [], seed=0)
    assert not model.pooled_inputs


def test_a_text_is_scored_by_the_vectors_and_features_of_its_tokens(case):
    model, text = case
    ids, lengths = text.ids, text.lengths
    vectors, encoded = model.embed(ids), model.encoder.embed(ids)
    features = [] if model.characters is None else [model.characters(ids)]
    assert torch.equal(vectors, torch.cat([encoded, *features], dim=2))
    # What the encoder makes of tokens it makes of their vectors.
    states = model.encoder(ids, lengths)
    assert torch.equal(model.encoder.read(encoded, lengths), states)
    with torch.no_grad():
        for found in (
            model.score_embeddings(vectors, lengths),
            model.score(torch.cat([states, *features], dim=2), lengths),
        ):
            torch.testing.assert_close(found.labels, scores(model, text).labels)


def test_dropout_is_on_characters_representation_and_recurrence(model_settings, tagger, texts):
    settings, table = model_settings(**tagger, dropout=0.5), texts(4, tags=True)
    known = vocabulary(table)
    model = files.build(settings, known.labels, known.tags, seed=0).train()
    shapes = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, given, _: shapes.append((module.p, given[0].shape[-1])))
    scores(model, examples(table, settings, known).text)
    # The dimension of characters; vectors and filters; two directions.
    assert shapes == [(0.5, 3), (0.5, 8 + 4), (0.5, 2 * 5)]
