"""Private steps by one process, or by one of two: `python two_processes.py FOLDER RANK`."""

import sys

import torch
from torch import distributed, nn

from stages.privacy.clipping import ClippedGradients
from stages.privacy.distributed import all_reduce_with_noise
from stages.privacy.noise import Noise

# The rows of each step's batch that each of two processes takes; one has none in the second step.
SHARES = [([0, 1], [2, 3, 4]), ([4, 1], [])]
DEVIATIONS = (0.0, 0.3)


def start():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(5, 6)


def trained(batches, deviation, seed, reduce):
    """Return the weights after a step for each batch of rows; with `reduce`, together with the other process."""
    model, inputs = start()
    recorder = ClippedGradients(model, 0.5)
    noise = Noise(seed)

    def add_noise():
        noise.add(recorder.parameters, deviation, 3)

    for rows in batches:
        model.zero_grad()
        with recorder.recording(len(rows)):
            losses = model(inputs[rows]).square().sum(1)
        recorder.backward(losses)
        if reduce:
            all_reduce_with_noise(recorder.parameters, add_noise)
        else:
            add_noise()
        # By hand: torch.optim takes three seconds to import.
        with torch.no_grad():
            for parameter in recorder.parameters:
                parameter.sub_(parameter.grad, alpha=0.5)
    return nn.utils.parameters_to_vector(model.parameters()).detach()


if __name__ == "__main__":
    folder, rank = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    # A seed of its own: the noise of the first process alone may count.
    batches = [shares[rank] for shares in SHARES]
    weights = {deviation: trained(batches, deviation, seed=rank, reduce=True) for deviation in DEVIATIONS}
    torch.save(weights, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
