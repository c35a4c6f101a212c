"""The next-word model: its losses by hand, what it predicts, how it is judged, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.common.errors import InputError
from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.models.next_word import with_ends

# `cedarwood` and `gu` have a vector and only the first is predicted, `lu` and `zz` have none; capitals are looked up.
TEXTS = ["ba be lu bi", "gu", "cedarwood fu fo Ba zz ku da", ""]
NONE = Vocabulary([], [])


@pytest.fixture
def model(word_settings):
    return files.build(word_settings(), [], [], seed=0)


def losses(model, texts):
    with torch.no_grad():
        return model(*model.inputs(with_ends(texts, model.settings)))


def by_hand(model, text, words):
    """Return the logits (words + 1, outputs) of one text by torch's own LSTM, and which output is right at each."""
    _, *lines = Path(words["path"]).read_text().splitlines()
    vectors = {name: list(map(float, numbers)) for name, *numbers in map(str.split, lines)}
    names, network = list(vectors), model.settings.network
    known = [word if word in vectors else word.lower() for word in text.split()]
    reader = torch.nn.LSTM(8, network.hidden, network.layers)
    reader.load_state_dict(model.recurrent.state_dict())
    zeros = [0.0] * 8
    states = reader(torch.tensor([zeros, *(vectors.get(word, zeros) for word in known)]))[0]
    predicted = names[: network.vocabulary]
    right = [predicted.index(word) + 1 if word in predicted else 0 for word in known]
    return model.outputs(states).detach(), torch.tensor([*right, network.vocabulary + 1])


def test_losses_are_those_of_each_text_alone_and_padding_changes_nothing(model, words):
    together = losses(model, TEXTS)
    assert together.shape == (4, 8)
    for row, text in enumerate(TEXTS):
        logits, right = by_hand(model, text, words)
        expected = torch.nn.functional.cross_entropy(logits, right, reduction="none")
        torch.testing.assert_close(together[row, : len(right)], expected, rtol=1e-5, atol=1e-6)
        assert (together[row, len(right) :] == 0).all()
        torch.testing.assert_close(losses(model, [text])[0], together[row, : len(right)])


def test_what_can_be_predicted_are_the_first_words_of_the_file_and_all_others_are_one(model, words):
    text = with_ends(TEXTS, model.settings)
    found = model.targets(text.ids, text.lengths)
    for row, each in enumerate(TEXTS):
        _, right = by_hand(model, each, words)
        assert found[row].tolist() == right.tolist() + [-100] * (8 - len(right))
    assert found[1, 0] == found[0, 2] == found[2, 4] == 0
    assert model.outputs.out_features == 22


def test_a_text_that_is_cut_off_has_no_end(word_settings):
    text = with_ends(["ba be", "ba be bi", "ba be bi bo"], word_settings(max_length=4))
    assert text.lengths.tolist() == [4, 4, 4]
    model = files.build(word_settings(max_length=4), [], [], seed=0)
    ended = model.targets(text.ids, text.lengths) == 21
    assert ended.sum(dim=1).tolist() == [1, 0, 0]


def test_perplexity_and_accuracy_are_of_all_texts(model, words, texts):
    data, model.chunk = examples(texts(40), model.settings, NONE), 7
    measured = model.utility(data, NONE, "test", seed=0)
    assert list(measured) == ["test/next_word_accuracy", "test/perplexity"]
    hits, guessed, total, count = 0, 0, 0.0, 0
    for text in texts(40)["text"]:
        logits, right = by_hand(model, text, words)
        total += float(torch.nn.functional.cross_entropy(logits, right, reduction="sum"))
        count += len(right)
        for says, output in zip(logits, right.tolist(), strict=True):
            if 0 < output < 21:
                guessed += 1
                hits += int(says[1:21].argmax()) + 1 == output
    assert 0 < hits < guessed < count - 40
    accuracy, perplexity = measured.values()
    assert perplexity.value == pytest.approx(np.exp(total / count), rel=1e-5)
    assert accuracy.value == pytest.approx(hits / guessed)
    for found in measured.values():
        assert found.n == 40
        assert found.ci_low < found.value < found.ci_high


def test_texts_without_a_word_that_can_be_predicted_have_no_accuracy_but_zero(model, texts):
    data = examples(texts(3).assign(text="lu zz"), model.settings, NONE)
    assert model.utility(data, NONE, "test", seed=0)["test/next_word_accuracy"].value == 0


def test_it_is_drawn_from_its_seed_and_comes_back_without_its_vectors(word_settings, tmp_path):
    first, same, other = (files.build(word_settings(), [], [], seed) for seed in (1, 1, 2))
    assert torch.equal(losses(first, TEXTS), losses(same, TEXTS))
    assert not torch.equal(losses(first, TEXTS), losses(other, TEXTS))
    files.save(tmp_path, first.settings, [], [], first)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(dict(first.named_parameters()))
    assert not any(name.startswith("encoder") for name in saved)
    again, settings, _, _ = files.load(tmp_path)
    assert settings == first.settings
    assert torch.equal(losses(again, TEXTS), losses(first, TEXTS))


def test_a_vocabulary_larger_than_the_file_is_refused(word_settings):
    assert files.build(word_settings(vocabulary=30), [], [], 0).outputs.out_features == 32
    with pytest.raises(InputError, match=r"network\.vocabulary: 31; allowed: at most 30, the words of the vectors"):
        files.build(word_settings(vocabulary=31), [], [], 0)


def test_it_writes_no_targets(word_settings):
    settings = word_settings()
    content = settings.model_dump() | {"sequence_to_sequence": {"max_source": 4, "prompt": "lu"}}
    with pytest.raises(ValueError, match=r"sequence_to_sequence is for network.kind: bytes or pretrained; this is wor"):
        type(settings).model_validate(content)
