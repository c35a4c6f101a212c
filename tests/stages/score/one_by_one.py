"""What a language model says of a text that it reads alone: what batches and shared beginnings are held to."""

import torch


def log_probabilities_one_by_one(model, text):
    """Return the log-probabilities in nats of all tokens of a text, from its losses."""
    encoded = model.encode([text])
    with torch.no_grad():
        [losses] = model(*model.inputs(encoded))
    return [-float(loss) for loss in losses]
