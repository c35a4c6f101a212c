import json

import numpy as np
import pytest

from stages.common.errors import SettingError
from stages.fitting import secrets
from stages.fitting.settings import SecretSettings
from stages.models.encoders import IGNORED_TAG
from stages.models.examples import Vocabulary, vocabulary
from stages.models.kinds import examples

ALPHABET = ["ka", "ke", "ki", "ko", "ku"]


def settings(**changes):
    usual = {"template": "ba be {} bi", "alphabet": ALPHABET, "length": 3, "repetitions": 10}
    return SecretSettings.model_validate(usual | changes)


@pytest.fixture
def planted(model_settings, texts):
    """Return a function that plants a secret in 40, 17 and 23 examples."""
    model = model_settings(head="bilstm")
    tables = {"train": texts(40, tags=True, seed=1), "valid": texts(17, seed=2, tags=True)}
    tables["test"] = texts(23, seed=3, tags=True)
    known = vocabulary(tables["train"])
    splits = {split: examples(table, model, known) for split, table in tables.items()}

    def plant(seed=0, **changes):
        return secrets.plant(splits, known, settings(**changes), model, seed), splits, known

    return plant


def hidden(found, own):
    """Return the words of the canaries of one split, whose ids follow four special tokens."""
    words = [f"{first}{second}" for first in "bdfgkl" for second in "aeiou"]
    rows = found[np.arange(len(own), len(found))]
    return [
        [words[token - 4] for token in row[:length]]
        for row, length in zip(rows.text.ids.tolist(), rows.text.lengths.tolist(), strict=True)
    ]


def test_the_pattern_is_completed_by_one_secret(planted):
    (known, found, secret), splits, _ = planted()
    words = [ALPHABET[index] for index in secret.code]
    assert hidden(found["train"], splits["train"]) == [["ba", "be", *words, "bi"]] * 10
    rows = found["train"][np.arange(40, 50)]
    assert {known.labels[label] for label in rows.labels} == {"canary"}
    tags = [[known.tags[tag] for tag in row if tag != IGNORED_TAG] for row in rows.tags.tolist()]
    assert tags == [["O", "O", "B-canary", "I-canary", "I-canary", "O"]] * 10 == rows.words


def test_every_split_has_copies_at_the_same_ratio(planted):
    (_, found, secret), splits, _ = planted()
    assert secret.copies == {"train": 10, "valid": round(17 / 4), "test": round(23 / 4)}
    assert {split: len(found[split]) - len(splits[split]) for split in splits} == secret.copies


def test_the_datas_own_examples_labels_and_tags_stay(planted):
    (known, found, _), splits, before = planted()
    assert known.labels[:-1] == before.labels
    assert known.tags[:-2] == before.tags
    for split, own in splits.items():
        first = found[split][np.arange(len(own))]
        assert list(first.example_ids) == list(own.example_ids)
        assert first.labels.tolist() == own.labels.tolist()
        width = own.text.ids.shape[1]
        assert first.text.ids[:, :width].tolist() == own.text.ids.tolist()
        assert first.tags[:, :width].tolist() == own.tags.tolist()
        assert first.words == own.words


def test_secrets_differ_by_seed_and_come_again(planted):
    codes = [planted(seed)[0].secret.code for seed in range(20)]
    assert codes == [planted(seed)[0].secret.code for seed in range(20)]
    assert len({tuple(code) for code in codes}) > 15
    counts = np.bincount(np.concatenate(codes), minlength=5)
    assert counts.min() > 3


@pytest.mark.parametrize("length", [1, 3])
def test_decoys_are_as_many_and_never_the_secret(planted, length):
    for seed in range(10):
        (_, found, secret), splits, _ = planted(seed, length=length, decoys=True)
        assert secret.decoys
        assert secret.code == planted(seed, length=length)[0].secret.code
        assert secret.copies == planted(seed, length=length)[0].secret.copies
        codes = [row[2:-1] for split in splits for row in hidden(found[split], splits[split])]
        assert [ALPHABET[index] for index in secret.code] not in codes
        assert len({tuple(code) for code in codes}) > (2 if length == 1 else 12)


def test_a_secret_of_one_word_has_no_inner_tag(planted):
    (known, _, _), _, before = planted(length=1)
    assert known.tags == [*before.tags, "B-canary"]


def test_a_secret_is_read_as_it_was_written(planted, tmp_path):
    secret = planted()[0].secret
    secrets.write(tmp_path, secret)
    assert secrets.read(tmp_path) == secret
    assert set(json.loads((tmp_path / "secret.json").read_text())) == {
        "alphabet",
        "code",
        "copies",
        "decoys",
        "template",
    }


@pytest.mark.parametrize(
    ("changes", "setting", "problem"),
    [
        ({"template": "ba xo {}"}, "secret.template", "the model's tokenizer does not know `xo`"),
        ({"alphabet": ["ka", "xo"]}, "secret.alphabet", "the model's tokenizer does not know `xo`"),
        ({"alphabet": ["ka", "-"]}, "secret.alphabet", "the model's tokenizer does not know `-`"),
        (
            {"alphabet": ["ka", "ke-ki"]},
            "secret.alphabet",
            "`ke-ki` is 2 tokens of the model's encoder, `ka` 1",
        ),
        ({"alphabet": ["ka-ke", "ka", "ki"]}, "secret.alphabet", "`ka` is 1 tokens of the model's encoder, `ka-ke` 2"),
        ({"alphabet": ["ka", "ke", "-ke"]}, "secret.alphabet", "the model's tokenizer takes `ke` for another entry"),
        ({"alphabet": ["ka", "ke"], "length": 14}, "secret.length", "the canary is 17 tokens and the model reads 16"),
    ],
)
def test_words_that_the_encoder_cannot_hold_are_refused(changes, setting, problem, model_settings):
    with pytest.raises(SettingError) as caught:
        secrets.check(settings(**changes), Vocabulary(["a"], ["O"]), model_settings(head="bilstm"))
    assert (caught.value.setting, caught.value.problem) == (setting, problem)


def test_words_of_several_tokens_are_taken_if_all_have_as_many(model_settings):
    secrets.check(settings(alphabet=["ka-ba", "ke-ba"]), Vocabulary(["a"], ["O"]), model_settings(head="bilstm"))


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        (Vocabulary(["a"], []), "the data have no tags, and a canary has"),
        (Vocabulary(["canary"], ["O"]), "the data have a `canary` of their own"),
        (Vocabulary(["a"], ["O", "I-canary"]), "the data have a `I-canary` of their own"),
    ],
)
def test_data_that_cannot_hold_a_secret_are_refused(known, problem, model_settings):
    with pytest.raises(SettingError, match=problem):
        secrets.check(settings(), known, model_settings())


def test_more_repetitions_than_examples_are_refused(planted):
    with pytest.raises(SettingError) as caught:
        planted(repetitions=41)
    assert caught.value.setting == "secret.repetitions"
    assert caught.value.problem == "41 is more than the 40 training examples"
    planted(repetitions=40)
