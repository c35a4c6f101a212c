"""Our Adam against torch's."""

import subprocess
import sys

import torch

from stages.models.adam import Adam


def moved(make, steps=5):
    torch.manual_seed(0)
    parameters = [torch.randn(4, 3, requires_grad=True), torch.randn(2, requires_grad=True)]
    optimiser = make(parameters)
    for step in range(steps):
        optimiser.zero_grad()
        # The second has a gradient at every other step alone.
        loss = (parameters[0] ** 3).sum() + (parameters[1].sin().sum() if step % 2 else 0)
        loss.backward()
        optimiser.step()
    return parameters


def test_it_takes_the_steps_of_torchs():
    theirs = moved(lambda parameters: torch.optim.Adam(parameters, lr=0.1))
    for one, other in zip(moved(lambda parameters: Adam(parameters, 0.1)), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_rate_that_changes_is_that_of_the_next_step():
    parameter = torch.zeros(1, requires_grad=True)
    optimiser = Adam([parameter], 0.1)
    parameter.grad = torch.ones(1)
    optimiser.learning_rate = 0.5
    optimiser.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.5]))


def test_a_gradient_of_other_strides_moves_the_values_that_it_is_of():
    values = torch.arange(6.0).view(2, 3)
    parameters = [torch.zeros(2, 3, requires_grad=True) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = values, values.T.contiguous().T
    for parameter in parameters:
        Adam([parameter], 0.1).step()
    assert torch.equal(*parameters)


def test_without_gradients_nothing_moves():
    parameter = torch.ones(2, requires_grad=True)
    Adam([parameter], 0.1).step()
    assert parameter.tolist() == [1, 1]


def test_a_process_that_trains_does_not_import_the_compiler():
    # What it is for; a release of torch may change what its functions import.
    code = (
        "import sys, torch; from stages.models.adam import Adam; p = torch.ones(1, requires_grad=True);"
        "p.grad = torch.ones(1); Adam([p], 0.1).step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
