"""Membership inference by the loss (Yeom et al. 2018): an example with a low loss is guessed to be a member."""

import numpy as np
import pandas as pd

from stages.attack import roc
from stages.common.measurements import Measurement
from stages.models.classifier import TextClassifier
from stages.models.evaluate import predict
from stages.models.examples import Examples

# Below this many non-members, 0.1% of them is too few to set a threshold by.
NONMEMBERS_FOR_0_1_PERCENT = 10_000


def loss_scores(model: TextClassifier, examples: Examples) -> pd.DataFrame:
    """Return example_id and score, minus the loss of the true label: the higher, the more like a member."""
    log_probabilities = predict(model, examples).label_log_probabilities
    truth = examples.labels.numpy()
    scores = log_probabilities[np.arange(len(truth)), truth]
    return pd.DataFrame({"example_id": examples.example_ids, "score": scores})


def measure(scores: pd.DataFrame) -> dict[str, Measurement]:
    """Return AUC and true positive rates at small false positive rates.

    Args:
        scores: Columns member (bool) and score.
    """
    members = scores.loc[scores["member"], "score"].to_numpy()
    nonmembers = scores.loc[~scores["member"], "score"].to_numpy()
    measured = {
        "pool/auc": roc.area(members, nonmembers),
        "pool/true_positive_rate_at_1_percent": roc.true_positive_rate(members, nonmembers, 0.01),
    }
    if len(nonmembers) >= NONMEMBERS_FOR_0_1_PERCENT:
        measured["pool/true_positive_rate_at_0_1_percent"] = roc.true_positive_rate(members, nonmembers, 0.001)
    return measured


def roc_points(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the thinned ROC of columns member and score."""
    members = scores.loc[scores["member"], "score"].to_numpy()
    nonmembers = scores.loc[~scores["member"], "score"].to_numpy()
    return roc.thinned(*roc.curve(members, nonmembers))
