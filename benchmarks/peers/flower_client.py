"""A client of Flower's simulation; its actors read the data and build the model once, not in each call."""

from functools import cache

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.peers.work import Work, read

app = ClientApp()


@cache
def work() -> tuple[Work, nn.Module, Tensor, Tensor]:
    """Return the work, its model, inputs and labels."""
    torch.set_num_threads(1)
    found = read()
    return found, found.built(), torch.from_numpy(found.inputs), torch.from_numpy(found.labels)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train a client: the number of its node is its place in every cohort."""
    found, model, inputs, labels = work()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    number, place = int(message.content["config"]["server-round"]), int(context.node_config["partition-id"])
    order = torch.from_numpy(found.orders[number - 1, place])
    optimiser = torch.optim.SGD(model.parameters(), lr=found.learning_rate)
    for rows in order.split(found.batch_size):
        optimiser.zero_grad()
        cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimiser.step()
    made = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(order)})}
    return Message(RecordDict(made), reply_to=message)
