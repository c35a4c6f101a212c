"""Which tokens of a text tell a protected attribute, by a classifier of it: no list of words is needed."""

import numpy as np
import torch

from stages.models.encoders import EncodedText, tokenizer
from stages.models.fitted import FittedModel
from stages.sensitivity.gradients import Weights, jacobian, normalised


def status_weights(status: FittedModel, text: EncodedText) -> Weights:
    """Return (n, length) weights v: norms of the gradients of what the status model predicts, that sum to 1.

    They are those of log-odds, since where it is sure the gradients of a probability are lost to rounding; of two
    classes the weights are the same. Where all are 0, so are the weights; the marks of a text's ends have none.

    Args:
        status: A classifier of the protected attribute.
        text: n texts as it reads them.
    """
    settings = status.settings
    marks = tokenizer(settings.encoder, settings.max_length).encode(
        "", add_special_tokens=settings.encoder.kind == "transformer"
    )
    own = torch.arange(text.ids.shape[1])[None] < text.lengths[:, None]
    own &= ~torch.isin(text.ids, torch.tensor(marks.ids, dtype=text.ids.dtype))
    norms = jacobian(status.classifier, text, "predicted", "log_odds").norms[:, 0]
    return normalised(np.where(own.numpy(), norms, 0.0))
