"""Accumulated prediction sensitivity, P(x) = w' J v: how strongly one prediction depends on some of a text's tokens.

Krishna et al., "Measuring Fairness of Text Classifiers via Prediction Sensitivity", ACL 2022, of which only the
abstract could be read: the bilinear form, and that J holds norms over a token's vector, are recalled, not checked.

J[k, i] is the norm of the gradient of output k with respect to the vector of token i, as it is looked up: before
positions are added, and any token sees another. Norms are taken class by class before w weighs them: probabilities sum
to 1, so that signed gradients of all classes sum to 0 and equal weights of them would find nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from stages.models.classifier import TextClassifier
from stages.models.encoders import CHUNK, EncodedText

# v, (n, length).
Weights = NDArray[np.float64]
# Log-odds do not saturate where the classifier is sure, as probabilities do.
Output = Literal["probability", "log_odds"]
# Of which classes gradients are taken.
Classes = Literal["predicted", "all"]


@dataclass(frozen=True)
class Jacobian:
    """What a classifier says of n texts, and how strongly it depends on the vectors of their tokens.

    Attributes:
        probabilities: (n, classes).
        norms: (n, m, length) L2 norms of the gradients of the outputs of m classes, 0 on padding.
        sums: (n, m, length) their L1 norms.
        lengths: (n, length) L2 norms of the vectors of tokens, 0 on padding.
    """

    probabilities: NDArray[np.float64]
    norms: NDArray[np.float64]
    sums: NDArray[np.float64]
    lengths: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) the most probable class of each text."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found


def jacobian(
    model: TextClassifier, text: EncodedText, classes: Classes = "predicted", output: Output = "probability"
) -> Jacobian:
    """Return the norms of gradients of a classifier's outputs, one pass back for each class that is asked for.

    Texts of a chunk share each pass: they do not see each other, so that the gradient of a sum over texts is that of
    each. The mode of the model and its gradients stay as they are, and no random number is drawn.

    Args:
        model: Any classifier.
        text: n texts.
        classes: The most probable one of each text, or all.
        output: What is differentiated.
    """
    n, length, count = len(text.lengths), text.ids.shape[1], model.labels.out_features
    m = count if classes == "all" else 1
    norms, sums, lengths = np.zeros((n, m, length)), np.zeros((n, m, length)), np.zeros((n, length))
    probabilities = np.zeros((n, count))
    for rows, vectors, scores in scored_vectors(model, text):
        here, width = rows.numpy(), vectors.shape[1]
        asked = torch.arange(count).expand(len(rows), -1) if classes == "all" else scores.argmax(dim=1, keepdim=True)
        with torch.enable_grad():
            outputs = _outputs(scores, output)
        for column, of in enumerate(asked.T):
            one = one_hot(of.to(scores.device), count)
            [gradient] = torch.autograd.grad(outputs, vectors, one, retain_graph=column + 1 < m)
            for found, order in ((norms, 2), (sums, 1)):
                found[here, column, :width] = torch.linalg.vector_norm(gradient, order, dim=2).double().cpu().numpy()
        inside = torch.arange(width)[None] < text.lengths[rows][:, None]
        lengths[here, :width] = (torch.linalg.vector_norm(vectors.detach(), dim=2).double().cpu() * inside).numpy()
        probabilities[here] = torch.softmax(scores.detach().double(), dim=1).cpu().numpy()
    return Jacobian(probabilities, norms, sums, lengths)


def sensitivity(
    class_weights: NDArray[np.float64], norms: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n,) P = w' J v.

    Args:
        class_weights: w, (n, m) or (m,).
        norms: J, (n, m, length).
        weights: v, (n, length); where it is all zeros, so is P.
    """
    found: NDArray[np.float64] = (class_weights * np.einsum("nml,nl->nm", norms, weights)).sum(axis=1)
    return found


def normalised(weights: Weights) -> Weights:
    """Return (n, length) weights that sum to 1 in each row; a row of zeros stays one."""
    total = weights.sum(axis=1, keepdims=True)
    found: Weights = np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)
    return found


def scored_vectors(model: TextClassifier, text: EncodedText) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows of texts, the vectors of their tokens (rows, length, width) and the scores (rows, classes) of them."""
    # Texts of like length together: the cost of a chunk is that of its longest.
    order = torch.argsort(text.lengths, stable=True)
    with evaluating(model):
        for rows in order.split(CHUNK):
            lengths = text.lengths[rows].to(model.device)
            with torch.no_grad():
                vectors = model.embed(text.ids[rows, : int(lengths.max())].to(model.device))
            with torch.enable_grad():
                vectors.requires_grad_()
                scores = model.score_embeddings(vectors, lengths).labels
            yield rows, vectors, scores


@contextmanager
def evaluating(model: TextClassifier) -> Iterator[None]:
    """Have a model without dropout, and with gradients on any device; its mode is restored."""
    training = model.training
    model.eval()
    try:
        # cuDNN's LSTM has no gradient in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        model.train(training)


def _outputs(scores: Tensor, output: Output) -> Tensor:
    match output:
        case "probability":
            return torch.softmax(scores, dim=1)
        case "log_odds":
            log_probabilities = torch.log_softmax(scores, dim=1)
            # Summed over the others: 1 - p would be 0 where the model is sure.
            others = [
                torch.cat([log_probabilities[:, :k], log_probabilities[:, k + 1 :]], dim=1).logsumexp(dim=1)
                for k in range(scores.shape[1])
            ]
            return log_probabilities - torch.stack(others, dim=1)
    assert_never(output)
