"""A process that trains: the same bits, and memory that is kept."""

import platform
import subprocess
import sys

import pytest
import torch

from stages.models.process import set_up_process

# Eight times 64 MiB are written and freed; at the top of the heap, glibc would hand them back at once.
STEPS = """
import resource, sys, torch
from stages.models.process import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    kept = [torch.ones(2**24) for _ in range(8)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way):
    done = subprocess.run([sys.executable, "-c", STEPS, way], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_a_step_uses_the_memory_that_the_last_one_freed():
    assert faults("keep") < 100 < 10_000 < faults("leave")


def test_nothing_is_rounded_to_ten_bits_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    set_up_process()
    assert not torch.backends.cudnn.allow_tf32
    # Must go on working: an attack takes the gradient of an LSTM in eval mode so.
    with torch.backends.cudnn.flags(enabled=False):
        pass
    assert not torch.backends.cudnn.allow_tf32
