"""What Flower and flwr-datasets make of given updates and labels, for the tests that compare with them.

They want other versions of what this project installs, so this runs in an environment of its own:

    pip install flwr==1.42.0 flwr-datasets==0.6.1 && python tests/peers/flower.py > tests/peers/flower.json
"""

import json
from collections import Counter
from importlib.metadata import version

import numpy as np
from datasets import Dataset
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import Array
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity
from flwr_datasets.partitioner import DirichletPartitioner, ShardPartitioner

SIZE, CLIENTS, ROUNDS = 6, 3, 5
RATE, BETAS, TAU, MOMENTUM = 0.1, (0.9, 0.99), 1e-3, 0.9


class Nobody:
    """A grid of clients that are never asked."""

    def get_node_ids(self):
        return [1, 2, 3]


def updates():
    """Return the first weights, (rounds, clients, size) what clients add to them, and (rounds, clients) examples."""
    draws = np.random.default_rng(0)
    # Of sizes around tau, where the strategies differ most.
    scales = 10 ** draws.uniform(-4, 0, size=(ROUNDS, 1, SIZE))
    return (
        draws.normal(size=SIZE),
        scales * draws.normal(size=(ROUNDS, CLIENTS, SIZE)),
        draws.integers(1, 9, (ROUNDS, CLIENTS)),
    )


def weights_of(strategy, adaptive):
    """Return (rounds, size) the server's weights after each round."""
    weights, added, examples = updates()
    after = []
    for number in range(1, ROUNDS + 1):
        strategy.configure_train(number, ArrayRecord({"w": Array(weights)}), ConfigRecord(), Nobody())
        if adaptive and number == 1:
            # Reddi et al. 2021 begin there; Flower begins with zero.
            strategy.v_t = {"w": np.full(SIZE, TAU**2)}
        if isinstance(strategy, FedAdam):
            # Flower corrects for the bias of the moments, the paper does not: undone here.
            strategy.eta = RATE * (1 - BETAS[0] ** (number + 1)) / np.sqrt(1 - BETAS[1] ** (number + 1))
        replies = [
            Message(
                RecordDict(
                    {
                        "arrays": ArrayRecord({"w": Array(weights + added[number - 1, client])}),
                        "metrics": MetricRecord({"num-examples": int(examples[number - 1, client])}),
                    }
                ),
                dst_node_id=client,
                message_type="train",
            )
            for client in range(CLIENTS)
        ]
        arrays, _ = strategy.aggregate_train(number, replies)
        weights = arrays["w"].numpy()
        after.append(weights.tolist())
    return after


def strategies():
    adaptive = {"eta": RATE, "tau": TAU}
    betas = {"beta_1": BETAS[0], "beta_2": BETAS[1]}
    return {
        "mean": weights_of(FedAvg(), False),
        "sgd": weights_of(FedAvgM(server_learning_rate=RATE, server_momentum=MOMENTUM), False),
        "adam": weights_of(FedAdam(**adaptive, **betas), True),
        "yogi": weights_of(FedYogi(**adaptive, **betas), True),
        "adagrad": weights_of(FedAdagrad(**adaptive), True),
    }


def labels():
    return np.random.default_rng(1).permutation(np.repeat(np.arange(6), [400, 300, 200, 60, 30, 10]))


def counts(partitioner, clients):
    """Return (clients, labels) how many examples of each label each client holds."""
    partitioner.dataset = Dataset.from_dict({"label": labels().tolist()})
    held = [Counter(partitioner.load_partition(client)["label"]) for client in range(clients)]
    return [[each[label] for label in range(6)] for each in held]


def partitions():
    dirichlet = [
        {"alpha": alpha, "seed": seed, "clients": 8, "least": 40}
        for alpha, seed in [(0.5, 0), (0.5, 1), (1.0, 2), (10.0, 3), (1000.0, 4)]
    ]
    for each in dirichlet:
        each["counts"] = counts(
            DirichletPartitioner(each["clients"], "label", each["alpha"], each["least"], seed=each["seed"]), 8
        )
    shards = [counts(ShardPartitioner(10, "label", num_shards_per_partition=2, seed=seed), 10) for seed in range(200)]
    several = [np.count_nonzero(each, axis=1) for each in np.array(shards)]
    return {
        "dirichlet": dirichlet,
        "shards": {"sizes": np.unique(np.array(shards).sum(2)).tolist(), "labels": float(np.mean(several))},
    }


if __name__ == "__main__":
    # Messages ask whose they are.
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    made = {name: version(name) for name in ("flwr", "flwr-datasets")}
    weights, added, examples = (each.tolist() for each in updates())
    given = {"weights": weights, "added": added, "examples": examples, "labels": labels().tolist()}
    settings = {"learning_rate": RATE, "beta1": BETAS[0], "beta2": BETAS[1], "tau": TAU, "momentum": MOMENTUM}
    found = {"made_by": made, "given": given | settings, "strategies": strategies(), "partitions": partitions()}
    print(json.dumps(found))
