import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.counterfactual.settings import SwapSettings
from stages.counterfactual.swaps import both_ways, read_swaps, swap, swapped_texts

PAIRS = [("he", "she"), ("him", "her"), ("his", "her"), ("king", "queen"), ("men", "women")]
SWAPS = both_ways(PAIRS)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("the king and the queen", "the queen and the king"),
        ("He said: HE? he!", "She said: SHE? she!"),
        ("King's Queen's kings", "Queen's King's kings"),
        ("he's and HE'S, but not l'he", "she's and SHE'S, but not l'he"),
        ("he\u2019s", "she\u2019s"),
        ("(king)-men/women_men2", "(queen)-women/men_women2"),
        ("Heather the chef shed a kingdom", "Heather the chef shed a kingdom"),
        ("  two  spaces\tand\nlines  ", "  two  spaces\tand\nlines  "),
        ("", ""),
    ],
)
def test_listed_words_alone_are_swapped_with_their_case(text, swapped):
    assert swap(text, SWAPS) == swapped


def test_letters_beyond_ascii_belong_to_words():
    assert swap("éhe heé Él él", both_ways([("he", "she"), ("él", "ella")])) == "éhe heé Ella ella"


def test_a_word_of_two_counterparts_takes_the_first_listed():
    # Without parts of speech, her as in "his book" cannot be told from her as in "saw him".
    assert swap("her book, saw her", SWAPS) == "him book, saw him"


def test_a_word_that_shares_its_counterpart_does_not_come_back():
    assert swap(swap("his", SWAPS), SWAPS) == "him"


unlisted = st.text(st.characters(categories=["L", "N", "P", "Z"]), max_size=40).filter(
    lambda text: not any(word in text.lower() for pair in PAIRS for word in pair)
)


@given(unlisted)
@settings(deadline=None, max_examples=100)
def test_a_text_without_a_listed_word_stays_as_it_is(text):
    assert swap(text, SWAPS) == text


@given(
    st.lists(st.sampled_from(["he", "She", "KING", "queen", "Men", "women", "and", "the", ",", "'", "?"]), max_size=12)
)
@settings(deadline=None, max_examples=100)
def test_swapping_twice_gives_the_text_back_where_pairs_are_one_to_one(words):
    swaps = both_ways([("he", "she"), ("king", "queen"), ("men", "women")])
    text = " ".join(words)
    assert swap(swap(text, swaps), swaps) == text


def test_a_table_is_swapped_in_text_and_tokens_and_says_what_changed():
    table = pd.DataFrame(
        {"text": ["the king", "the cat"], "tokens": [["the", "king"], ["the", "cat"]], "label": ["a", "b"]}
    )
    swapped = swapped_texts(table, SWAPS)
    assert swapped["text"].tolist() == ["the queen", "the cat"]
    assert swapped["tokens"].tolist() == [["the", "queen"], ["the", "cat"]]
    assert swapped["changed"].tolist() == [True, False]
    assert table["text"].tolist() == ["the king", "the cat"]


def test_pairs_are_read_from_all_files_in_lower_case_and_both_ways(tmp_path):
    (tmp_path / "a.txt").write_text("King \t queen\n\nmen\twomen\n")
    (tmp_path / "b.txt").write_text("king\tprincess\n")
    settings_ = SwapSettings(paths=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert read_swaps(settings_) == {
        "king": "queen",
        "queen": "king",
        "men": "women",
        "women": "men",
        "princess": "king",
    }


def test_an_absent_file_of_pairs_is_refused():
    with pytest.raises(InputError, match=r"absent.txt: no such file; give a file of tab-separated word pairs"):
        read_swaps(SwapSettings(paths=["absent.txt"]))


@pytest.mark.parametrize("line", ["king queen", "king", "king\tqueen\tprince", "\tqueen"])
def test_a_line_that_is_no_pair_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"he\tshe\n{line}\n")
    with pytest.raises(InputError, match=r"a.txt, line 2: .*; a line is two words with a tab between"):
        read_swaps(SwapSettings(paths=[str(tmp_path / "a.txt")]))


def test_a_file_of_pairs_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("él\tella\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a.txt: not UTF-8"):
        read_swaps(SwapSettings(paths=[str(tmp_path / "a.txt")]))
