"""Models of which a part is trained: adapters beside frozen layers, and any other half."""

import pytest
import torch
from torch import nn

from stages.privacy.clipping import ClippedGradients
from stages.privacy.noise import Noise
from tests.stages.privacy.cases import CASES, by_loop, error, flat, losses, made

TOLERANCE = 1e-5


class Adapted(nn.Module):
    """A frozen layer, and beside it what is trained: LoRA (Hu et al. 2022), whose second factor starts at zero."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, values):
        return self.base(values) + 2.0 * self.up(self.down(values))


def adapted(name, layers):
    """Return a model whose named layers alone are trained, through adapters."""
    model, inputs, labels = made(name)
    model.requires_grad_(False)
    for parameter in model.parameters():
        # As a trained model has them: from its first ones a step would be lost in rounding.
        nn.init.normal_(parameter, std=0.3)
    found = [(path, module) for path, module in model.named_modules() if path.rpartition(".")[2] in layers]
    for path, module in found:
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, Adapted(module))
    return model, inputs, labels


ADAPTED = {"bert": ("query", "value"), "llama, tied": ("q_proj", "v_proj", "down_proj")}


def held_against_a_loop(model, inputs, labels):
    bound = float(by_loop(model, inputs, labels, 1.0)[0].median())
    norms, total = by_loop(model, inputs, labels, bound)
    before = flat(model.parameters())
    recorder = ClippedGradients(model, bound)
    with recorder.recording(len(inputs)):
        found = losses(model, inputs, labels)
    found_norms = recorder.backward(found)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    assert error(found_norms, norms) <= TOLERANCE
    assert error(flat(gradients), total) <= TOLERANCE
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert torch.equal(flat(model.parameters()), before)


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_beside_frozen_layers_are_clipped_exactly(name):
    model, inputs, labels = adapted(name, ADAPTED[name])
    held_against_a_loop(model, inputs, labels)
    # Once the second factor is not zero, the first has a gradient as well.
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    held_against_a_loop(model, inputs, labels)


@pytest.mark.parametrize("deviation", [0.0, 0.1])
@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_move_as_their_gradients_have_it(name, deviation):
    model, inputs, labels = adapted(name, ADAPTED[name])
    recorder = ClippedGradients(model, 1.0)
    optimiser = torch.optim.SGD(recorder.parameters, lr=0.5)
    noise = Noise(0)
    moved = []
    for _ in range(2):
        before = {path: parameter.detach().clone() for path, parameter in model.named_parameters()}
        optimiser.zero_grad()
        with recorder.recording(len(inputs)):
            found = losses(model, inputs, labels)
        recorder.backward(found)
        noise.add(recorder.parameters, deviation, len(inputs))
        optimiser.step()
        moved.append({path for path, parameter in model.named_parameters() if not torch.equal(parameter, before[path])})
    trained = {path for path, parameter in model.named_parameters() if parameter.requires_grad}
    up = {path for path in trained if path.endswith("up.weight")}
    assert len(trained) == 2 * len(up) > 0
    # While the second factor is zero the first one's gradient is, and noise alone moves it.
    assert moved == [trained if deviation else up, trained]


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_any_half_of_a_model_can_be_frozen(name, half):
    model, inputs, labels = made(name)
    for parameter in list(model.parameters())[half::2]:
        parameter.requires_grad_(False)
    held_against_a_loop(model, inputs, labels)
