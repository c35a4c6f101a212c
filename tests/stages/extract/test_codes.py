import torch

from stages.extract.codes import codes


def test_codes_count_in_the_order_of_their_words():
    assert codes(torch.arange(6), 2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert codes(torch.tensor([123_456]), 6, 10).tolist() == [[1, 2, 3, 4, 5, 6]]
