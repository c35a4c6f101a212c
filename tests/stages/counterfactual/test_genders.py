import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.counterfactual.genders import COUNTERPARTS, GENDERED, gender_of, written


@pytest.mark.parametrize(
    ("male", "female"),
    [
        ("He's the king, SIR!", "She's the queen, MA'AM!"),
        ("He told him that his dog saw him.", "She told her that her dog saw her."),
        ("his own 2 cars, his 2 cars", "her own 2 cars, her 2 cars"),
        ("The book is his. HIS or a friend of his", "The book is hers. HERS or a friend of hers"),
        ("I saw him in his in-law's car", "I saw her in her in-law's car"),
        ("gave him to my father's son", "gave her to my mother's daughter"),
        ('his "best" friend saw him', 'her "best" friend saw her'),
        ("Mr. Hershey, himself a chemist", "Mrs. Hershey, herself a chemist"),
        ("call him\nagain, and him", "call her\nagain, and her"),
    ],
)
def test_a_text_is_written_in_either_gender_with_its_case(male, female):
    assert written(female, "male") == male
    # Of "his" that stands alone hers is written, and read back as his.
    assert written(male, "female") == female
    assert (written(male, "male"), written(female, "female")) == (male, female)


def test_her_before_a_noun_that_is_no_possessive_is_told_wrongly_as_stated():
    assert written("gave her flowers", "male") == "gave his flowers"


@pytest.mark.parametrize(
    ("text", "gender"),
    [
        ("She sat", "female"),
        ("a man's hat", "male"),
        ("he saw her", "both"),
        ("the nurse sat", None),
        ("", None),
        ("Heather and the chef shed", None),
    ],
)
def test_the_gender_of_a_text_is_that_of_its_listed_words(text, gender):
    assert gender_of(text) == gender


def test_no_word_is_of_both_genders():
    assert not COUNTERPARTS["female"].keys() & COUNTERPARTS["male"].keys()
    assert set(COUNTERPARTS["female"].values()) <= COUNTERPARTS["male"].keys()
    assert set(COUNTERPARTS["male"].values()) <= COUNTERPARTS["female"].keys()


pieces = st.sampled_from([*sorted(GENDERED), "Her", "HIS", "he's", "the", "that", "dog", ".", "in-law", "2", '"'])


@given(st.lists(pieces, min_size=1, max_size=12), st.sampled_from(["female", "male"]))
@settings(deadline=None, max_examples=200)
def test_a_text_with_listed_words_is_of_the_gender_it_is_written_in_and_no_other_word_changes(chosen, gender):
    text = " ".join(chosen)
    rewritten = written(text, gender)
    assert gender_of(rewritten) == (gender if gender_of(text) else None)
    for before, after in zip(chosen, rewritten.split(" "), strict=True):
        assert before == after or before.lower().removesuffix("'s") in GENDERED
    assert written(rewritten, gender) == rewritten
