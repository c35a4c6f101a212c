from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.models.encoders import IGNORED_TAG
from stages.models.examples import Vocabulary, read_split, rows_of, vocabulary
from stages.models.kinds import examples


def tagged(*rows):
    return pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(len(rows))],
            "text": [" ".join(words) for words, _ in rows],
            "label": "a",
            "tokens": [words for words, _ in rows],
            "tags": [tags for _, tags in rows],
        }
    )


def test_the_vocabulary_is_sorted_and_has_each_name_once():
    table = tagged((["ba", "be"], ["O", "B-x"]), (["ba", "bi"], ["B-a", "O"])).assign(label=["z", "b"])
    assert vocabulary(table) == Vocabulary(["b", "z"], ["B-a", "B-x", "O"])


def test_data_without_tags_has_a_vocabulary_without_tags():
    assert vocabulary(pd.DataFrame({"label": ["z", "b", "b"]})) == Vocabulary(["b", "z"], [])


@pytest.mark.parametrize("tag", ["S-x", "NN", "b-x"])
def test_tags_of_another_scheme_are_refused(tag):
    with pytest.raises(InputError, match=f"tag '{tag}' is no BIO tag; allowed: O, B-type, I-type"):
        vocabulary(tagged((["ba"], [tag])))


def test_labels_become_their_index(model_settings, texts):
    table = texts(5)
    found = examples(table, model_settings(), Vocabulary(["ash", "birch", "cedar"], []))
    assert [["ash", "birch", "cedar"][index] for index in found.labels] == table["label"].tolist()


def test_a_label_that_training_never_saw_is_refused(model_settings, texts):
    with pytest.raises(InputError, match="label 'cedar' is not in the training split; set when_unseen: drop"):
        examples(texts(30), model_settings(), Vocabulary(["ash", "birch"], []))


def test_a_word_has_its_tag_on_its_first_token_only(model_settings):
    table = tagged((["ba-be", "bi"], ["B-x", "O"]), (["bo"], ["O"]))
    found = examples(table, model_settings(), Vocabulary(["a"], ["B-x", "O"]))
    assert found.tags.tolist() == [[0, IGNORED_TAG, 1], [1, IGNORED_TAG, IGNORED_TAG]]


def test_a_tag_that_training_never_saw_is_ignored_but_kept_by_name(model_settings):
    found = examples(tagged((["ba", "be"], ["B-x", "I-x"])), model_settings(), Vocabulary(["a"], ["B-x", "O"]))
    assert found.tags.tolist() == [[0, IGNORED_TAG]]
    assert found.words == [["B-x", "I-x"]]


def test_words_that_were_cut_off_keep_their_tags_by_name(model_settings):
    table = tagged((["ba", "be", "bi"], ["O", "O", "B-x"]))
    found = examples(table, model_settings(max_length=2), Vocabulary(["a"], ["B-x", "O"]))
    assert found.tags.tolist() == [[1, 1]]
    assert found.words == [["O", "O", "B-x"]]


def test_words_with_tags_are_not_split_at_punctuation(model_settings, words):
    table, split = tagged((["a", "?"], ["O", "O"])), {**words, "split_at": "punctuation"}
    with pytest.raises(InputError, match=r"encoder.split_at: punctuation; allowed: spaces, where data have words with"):
        examples(table, model_settings(encoder=split), vocabulary(table))


def test_some_rows_of_examples_are_those_rows_in_all_parts(model_settings, texts):
    table = texts(20, tags=True)
    known = vocabulary(table)
    rows = np.array([7, 3, 3])
    some, again = (
        examples(table, model_settings(), known)[rows],
        examples(table.iloc[rows], model_settings(), known),
    )
    assert some.example_ids.tolist() == again.example_ids.tolist()
    assert some.labels.tolist() == again.labels.tolist()
    assert some.words == again.words
    width = again.text.ids.shape[1]
    assert some.text.ids[:, :width].tolist() == again.text.ids.tolist()
    assert some.tags[:, :width].tolist() == again.tags.tolist()


def test_rows_are_found_by_name_in_the_order_asked_for():
    assert rows_of(np.array(["a", "b", "c"], dtype=object), ["c", "a"]).tolist() == [2, 0]


def test_names_of_other_data_are_refused():
    with pytest.raises(InputError, match=r"partition: 2 of its examples are not in the data set; run `dvc repro`"):
        rows_of(np.array(["a", "b"], dtype=object), ["x", "a", "y"])


def test_an_empty_split_is_refused(study):
    pd.DataFrame({"example_id": []}).to_parquet("data/prepared/trees/valid.parquet")
    with pytest.raises(InputError, match=r"valid.parquet: holds no rows"):
        read_split("trees", "valid")


def test_a_split_that_is_not_there_is_named(study):
    Path("data/prepared/trees/valid.parquet").unlink()
    with pytest.raises(InputError, match=r"valid.parquet: trees has no split `valid`; give it in `files` or `splits`"):
        read_split("trees", "valid")
