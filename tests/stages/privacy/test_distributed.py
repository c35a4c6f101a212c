"""Two processes take the steps that one would; the noise is added once."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import stages
from tests.stages.privacy import two_processes

ROOT = Path(stages.__file__).parents[1]


def test_two_processes_take_the_steps_of_one(tmp_path):
    command = [sys.executable, two_processes.__file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    before = nn.utils.parameters_to_vector(two_processes.start()[0].parameters())
    whole = [[*one, *other] for one, other in two_processes.SHARES]
    for deviation in two_processes.DEVIATIONS:
        expected = two_processes.trained(whole, deviation, seed=0, reduce=False)
        assert torch.equal(first[deviation], second[deviation])
        torch.testing.assert_close(first[deviation], expected, rtol=0, atol=1e-6)
        assert (expected - before).norm() > 0.1
