import pytest

from stages.invert.overlap import matched, ngram_f1, overlap, subsequence_f1


def test_a_text_is_all_in_itself():
    assert overlap([5, 6, 7], [5, 6, 7]) == (1, 1, 1, 1)


def test_another_text_is_not_in_it():
    assert overlap([5, 6, 7], [1, 2, 3]) == (0, 0, 0, 0)


def test_rouge_counts_a_token_as_often_as_both_have_it():
    assert ngram_f1([1, 1, 2, 3], [1, 2, 2, 2], 1) == pytest.approx(2 * 2 / 8)
    # Of three and of two pairs one is shared.
    assert ngram_f1([1, 2, 3, 4], [2, 3, 5], 2) == pytest.approx(2 / 5)
    assert ngram_f1([1], [1], 2) == 0


def test_the_longest_common_subsequence_may_have_gaps():
    assert subsequence_f1([1, 2, 3, 4, 5], [1, 9, 3, 5]) == pytest.approx(2 * 3 / 9)
    assert subsequence_f1([1, 2, 3], [3, 2, 1]) == pytest.approx(2 / 6)
    assert subsequence_f1([], [1]) == 0


def test_the_same_tokens_in_another_order():
    found = overlap([1, 2, 3, 4], [2, 1, 4, 3])
    assert found.token_accuracy == 0
    assert found.rouge1 == 1
    assert found.rouge2 == 0
    assert found.rougel == 0.5


def test_reconstructions_are_matched_one_to_one_whatever_their_order():
    private = [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert matched(private, [[7, 9], [1, 2, 9], [4, 5, 6]]) == [1, 2, 0]
    # Greedily the first text would take the only one that is like the second.
    assert matched([[1, 2, 3, 4], [1, 2, 9, 9]], [[1, 2, 3, 9], [8, 2, 3, 4]]) == [1, 0]
