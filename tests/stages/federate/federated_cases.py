"""A small network over random examples as a federation's workload; worker processes import what is here."""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stages.federate.client import Task, Workload
from stages.federate.population import participants
from stages.federate.selectors import selector
from stages.federate.settings import FederateSettings
from stages.federate.weights import Layout

EXAMPLES, WIDTH, LABELS = 120, 6, 3


def federation(**changes):
    usual = {
        "dataset": "trees",
        "model": "mean",
        "seeds": [0],
        "partition": "halves",
        "train_on": "train",
        "mechanism": "fedavg",
        "batch_size": 4,
        "learning_rate": 0.1,
        "rounds": 1,
        "clients_per_round": 5,
        "local_epochs": 2,
    }
    return FederateSettings.model_validate(usual | changes)


class Loss:
    """Cross-entropy of rows."""

    def __init__(self, labels):
        self.labels = labels

    def __call__(self, scores, rows):
        return functional.cross_entropy(scores, self.labels[rows], reduction="none")


class Deadly(Loss):
    """The same, but it kills its process as long as there are files in a folder, and removes one."""

    def __init__(self, labels, folder):
        super().__init__(labels)
        self.folder, self.home = folder, os.getpid()

    def __call__(self, scores, rows):
        for file in Path(self.folder).iterdir():
            file.unlink(missing_ok=True)
            assert os.getpid() != self.home
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(scores, rows)


class Broken(Loss):
    def __call__(self, scores, rows):
        raise ZeroDivisionError(f"{len(scores)} of {len(rows)}")


def network(dropout):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, LABELS))


def examples():
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, WIDTH, generator=draws)
    return inputs, (inputs @ torch.randn(WIDTH, LABELS, generator=draws)).argmax(1)


def workload(objective=Loss, vectorised=True, dropout=0.0, **changes):
    inputs, labels = examples()
    return Workload(network(dropout), (inputs,), objective(labels), federation(**changes), vectorised)


def start(work):
    return Layout(work.model).read(work.model)


def tasks(work, sizes, steps=None):
    """Return a task for each client, of so many rows each, with all its steps unless they are given."""
    settings, ends = work.settings, np.cumsum(sizes)
    whole = [settings.local_epochs * -(-size // settings.batch_size) for size in sizes]
    return [
        Task(slot, np.arange(end - size, end), made, float(size), 100 + slot, 200 + slot)
        for slot, (size, end, made) in enumerate(zip(sizes, ends, steps or whole, strict=True))
    ]


def cohort_of(population, settings, seed=0, number=1):
    """Return who takes part in a round of a federation whose rule needs no losses."""
    drawn = selector(settings, population, seed, losses=None).draw(number)
    return participants(population, settings, drawn, seed, number)
