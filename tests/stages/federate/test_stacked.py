import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from stages.federate.stacked import Stacked, layers


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))


def weights(model):
    return {name: torch.randn(2, *parameter.shape) for name, parameter in model.named_parameters()}


# A row may be a vector, or a sequence of them.
@pytest.mark.parametrize("shape", [(6, 4), (6, 7, 4)], ids=str)
def test_outputs_and_gradients_are_those_of_vmap(model, shape):
    own, values = weights(model), torch.randn(2, *shape)
    found = [torch.empty_like(each) for each in own.values()]
    with Stacked(layers(model), None) as stack:
        stack.take(list(own.values()), found)
        made = model(values.flatten(0, 1))
        made.square().sum().backward()

    def loss(parameters, rows):
        return functional_call(model, parameters, (rows,)).square().sum()

    torch.testing.assert_close(
        made.view(2, *shape[:-1], 3), vmap(functional_call, (None, 0, 0))(model, own, (values,)), check_stride=False
    )
    for mine, expected in zip(found, vmap(grad(loss))(own, values).values(), strict=True):
        torch.testing.assert_close(mine, expected)


def test_with_a_rate_the_weights_make_their_step(model):
    own, values = weights(model), torch.randn(2, 6, 4)
    gradients = [torch.empty_like(each) for each in own.values()]
    before = [each.clone() for each in own.values()]
    for rate in (None, 0.1):
        with Stacked(layers(model), rate) as stack:
            stack.take(list(own.values()), gradients)
            model(values.flatten(0, 1)).square().sum().backward()
    for one, after, gradient in zip(before, own.values(), gradients, strict=True):
        torch.testing.assert_close(after, one - 0.1 * gradient)


def test_the_model_is_its_own_again_afterwards(model):
    values = torch.randn(3, 4)
    before = model(values)
    with Stacked(layers(model), None):
        pass
    assert torch.equal(model(values), before)


def test_a_layer_that_is_called_twice_is_refused():
    layer = nn.Linear(4, 4)
    with Stacked([layer], 0.1) as stack:
        stack.take([torch.randn(2, 4, 4), torch.randn(2, 4)], [torch.empty(0)] * 2)
        values = layer(torch.randn(6, 4))
        with pytest.raises(RuntimeError, match="a layer that is called twice"):
            layer(values)


def test_a_model_of_which_other_layers_are_trained_cannot_be_stacked(model):
    other = nn.Sequential(*model, nn.LayerNorm(3))
    assert layers(other) is None
    other[3].requires_grad_(False)
    assert layers(other) == layers(model) == [model[0], model[2]]
    model[0].bias.requires_grad_(False)
    assert layers(model) is None
