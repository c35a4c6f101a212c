import itertools

import numpy as np
import pytest
import torch

from stages.common.errors import SettingError
from stages.extract import likelihood
from stages.extract.likelihood import all_losses, likeliest, text_losses
from stages.extract.trial import trial_of_language_model
from stages.fitting.secrets import Secret, canaries
from stages.models import files


@pytest.fixture
def model(language_settings):
    return files.build(language_settings(), [], [], seed=0).eval()


def read_whole(model, text):
    with torch.no_grad():
        return float(model(*model.inputs(model.encode([text]))).double().sum())


@pytest.mark.parametrize("template", ["ba be {}", "ba be {} bi bo", "{} ba", "{}"])
@pytest.mark.parametrize("alphabet", [["ka", "ke", "ki"], ["ka-ke", "ki-ke", "fu-lu"], ["ka", "ka-ke", "fu-lu-ka"]])
@pytest.mark.parametrize("together", [1000, 9, 1])
def test_losses_are_those_of_each_text_read_whole(model, template, alphabet, together, monkeypatch):
    monkeypatch.setattr(likelihood, "CODES", together)
    every = np.array(list(itertools.product(range(3), repeat=3)))
    texts = canaries(template, alphabet, every)["text"]
    expected = [read_whole(model, text) for text in texts]
    found = all_losses(model, Secret(template, alphabet, [0, 0, 0], False, {}))
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_losses_of_a_network_over_bytes(byte_settings):
    model = files.build(byte_settings, [], [], seed=0).eval()
    texts = [f"my pin is {code:02}" for code in range(100)]
    np.testing.assert_allclose(text_losses(model, texts), [read_whole(model, text) for text in texts], atol=1e-4)


def test_a_beginning_is_read_once(model, monkeypatch):
    read, plain = [], model.network.forward
    monkeypatch.setattr(
        model.network, "forward", lambda **given: read.append(given["input_ids"].shape) or plain(**given)
    )
    all_losses(model, Secret("ba be {}", [f"k{vowel}" for vowel in "aeiou"], [0] * 4, False, {}))
    # The mark and the pattern, then words but the last.
    assert read == [(1, 3), (5, 1), (25, 1), (125, 1)]


def test_the_likeliest_word_is_taken_at_each_place(model):
    secret = Secret("ba {} be", ["ka", "ki-ke", "fu"], [0, 0, 0], False, {})
    code, words = [], ["ba"]
    for _ in range(3):
        code.append(int(np.argmin([read_whole(model, " ".join([*words, word])) for word in secret.alphabet])))
        words.append(secret.alphabet[code[-1]])
    assert likeliest(model, secret) == tuple(code)


def test_a_trial_ranks_the_secret_and_its_answer_is_never_below_the_oracle(model):
    for code in itertools.product(range(3), repeat=2):
        secret = Secret("ba {} be", ["ka", "ki", "fu"], list(code), False, {"train": 5})
        losses = all_losses(model, secret)
        trial = trial_of_language_model(model, secret, seed=0)
        own = losses[3 * code[0] + code[1]]
        assert trial.repetitions == 5
        assert trial.rank == 1 + int((losses < own).sum())
        assert trial.exposure == pytest.approx(np.log2(9) - np.log2(trial.rank))
        assert trial.secret_loss == pytest.approx(float(own))
        assert trial.answer_loss >= trial.oracle_loss == pytest.approx(float(losses.min()))


def test_words_of_unlike_length_are_refused(model):
    secret = Secret("ba {}", ["ka", "ki-ke"], [0], False, {"train": 5})
    with pytest.raises(SettingError, match="`ki-ke` has not as many tokens as `ka`"):
        trial_of_language_model(model, secret, seed=0)
