import pytest
import torch

from stages.models import characters
from stages.models.characters import Characters
from stages.models.settings import CharacterSettings

LIST = ["a", "ba", "abc", "caba", "bcabcab"]


def built(kernel=3, words=LIST, dropout=0.0):
    torch.manual_seed(0)
    return Characters(words, CharacterSettings(dimension=3, filters=4, kernel=kernel), dropout).double().eval()


def by_hand(layer, word):
    """Return the features of a word: windows around its characters, zeros beyond its ends, the most of each filter."""
    alphabet = sorted(set("".join(LIST)))
    vectors = [layer.embedding.weight[alphabet.index(character)] for character in word]
    before = (layer.kernel - 1) // 2
    nothing = torch.zeros(3).double()
    padded = [*[nothing] * before, *vectors, *[nothing] * (layer.kernel - 1 - before)]
    windows = [torch.cat(padded[start : start + layer.kernel]) for start in range(len(word))]
    return torch.stack([layer.convolution(window) for window in windows]).max(dim=0).values


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 9])
def test_each_word_has_the_most_that_a_filter_finds_in_it_also_one_shorter_than_the_kernel(kernel):
    layer = built(kernel)
    found = layer(torch.tensor([[1, 2, 3, 4, 5]]))
    assert found.shape == (1, 5, 4)
    for row, word in enumerate(LIST):
        torch.testing.assert_close(found[0, row], by_hand(layer, word))


def test_a_word_that_is_not_known_has_no_features():
    assert built()(torch.tensor([[0, 1], [0, 0]]))[:, 0].tolist() == [[0.0] * 4] * 2


def test_features_do_not_depend_on_what_pads_a_word_or_stands_beside_it():
    layer = built()
    # Filters that find less than nothing in all there is: a zero of padding would be the most.
    torch.nn.init.constant_(layer.convolution.bias, -100.0)
    alone = torch.cat([layer(torch.tensor([[row]])) for row in range(1, 6)], dim=1)
    together = layer(torch.tensor([[1, 2, 3, 4, 5]]))
    torch.testing.assert_close(together, alone)
    assert (together < -90).all()


def test_what_is_beyond_the_longest_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(characters, "LONGEST", 4)
    found = built(words=["abca", "abcab", "abcb"])(torch.tensor([[1, 2, 3]]))[0]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_gradients_are_those_of_finite_differences():
    layer, ids = built(), torch.tensor([[1, 5, 0], [3, 2, 4]])
    names = list(dict(layer.named_parameters()))

    def features(*parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (ids,))

    assert torch.autograd.gradcheck(features, [parameter.detach().requires_grad_() for parameter in layer.parameters()])


def test_characters_are_dropped_in_training_alone():
    layer, ids = built(dropout=0.5), torch.tensor([[4, 5]])
    assert torch.equal(layer(ids), layer(ids))
    layer.train()
    assert not torch.equal(layer(ids), layer(ids))


def test_how_words_are_spelt_is_found_again_and_not_saved():
    assert set(built().state_dict()) == {"embedding.weight", "convolution.weight", "convolution.bias"}
