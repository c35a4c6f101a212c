"""What a model says of examples, and how well the texts that it gives agree with those that it should."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.models.crf import best
from stages.models.examples import Examples
from stages.models.text_model import Objective, TextModel

if TYPE_CHECKING:
    # Models measure themselves by what is here.
    from stages.models.classifier import Scores, TextClassifier


@dataclass(frozen=True)
class Predictions:
    """Log-probabilities of the labels (n, labels), float64, and the tag index of each word of each text."""

    label_log_probabilities: NDArray[np.float64]
    tags: list[NDArray[np.int64]]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The most probable label of each text."""
        best: NDArray[np.int64] = np.argmax(self.label_log_probabilities, axis=1)
        return best


def predict(
    model: "TextClassifier", examples: Examples, outside: int = 0, inputs: tuple[Tensor, ...] | None = None
) -> Predictions:
    """Predict labels and tags in eval mode; the mode is restored.

    Args:
        model: The classifier.
        examples: What to predict.
        outside: Tag index given to words that were cut off.
        inputs: What `model.inputs(examples.text)` returned, if the caller has it already.
    """
    order: list[Tensor] = []
    labels: list[Tensor] = []
    tags: list[Tensor] = []
    for rows, scores in scored(model, examples, inputs):
        order.append(rows)
        labels.append(nn.functional.log_softmax(scores.labels.double(), dim=1).cpu())
        if scores.tags is not None:
            tags.extend(_most_probable(scores, scores.tags, examples.text.words[rows]).cpu())
    back = torch.argsort(torch.cat(order))
    return Predictions(
        torch.cat(labels)[back].numpy(), _by_word([tags[row] for row in back] if tags else [], examples, outside)
    )


def _most_probable(scores: "Scores", emissions: Tensor, words: Tensor) -> Tensor:
    """Return (n, length) the tags of the most probable sequence, or else the most probable tag of each token."""
    if scores.chain is None:
        return emissions.argmax(dim=2)
    return best(emissions, scores.chain, begins_word(words, emissions))


def begins_word(words: Tensor, emissions: Tensor) -> Tensor:
    """Return which tokens of emissions (n, length, tags) begin a word, by the words of their text."""
    return (words[:, : emissions.shape[1]] >= 0).to(emissions.device)


def scored(
    model: TextModel, examples: Examples, inputs: tuple[Tensor, ...] | None = None
) -> Iterator[tuple[Tensor, Any]]:
    """Yield rows of examples and what the model says of them; see `chunks`.

    Args:
        model: A classifier, which gives Scores, a span model, which gives SpanScores, or a language model, which
            gives losses of tokens.
        examples: What to score.
        inputs: What `model.inputs(examples.text)` returned, if the caller has it already.
    """
    for rows, given in chunks(model, examples, inputs):
        yield rows, model(*given)


def chunks(
    model: TextModel, examples: Examples, inputs: tuple[Tensor, ...] | None = None
) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """Yield rows of examples and their inputs, chunk by chunk, without gradients in eval mode; the mode is restored."""
    training = model.training
    model.eval()
    inputs = model.inputs(examples.text) if inputs is None else inputs
    # Texts of like length together: the cost of a chunk is that of its longest.
    order = torch.argsort(examples.text.lengths, stable=True)
    with torch.no_grad():
        for rows in order.split(model.chunk):
            here = rows.to(model.device)
            yield rows, tuple(tensor[here] for tensor in inputs)
    model.train(training)


def question_scores(found: Sequence[str], answers: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return (n, 2) exact match and F1 of words of each text found, the best over its answers, by SQuAD's rules."""
    # torchmetrics takes two seconds to import.
    from torchmetrics.functional.text import squad

    scores = np.empty((len(found), 2))
    for row, (text, right) in enumerate(zip(found, answers, strict=True)):
        # Which asks for the places of answers, and does not look at them.
        said: dict[str, list[str] | list[int]] = {"text": list(right), "answer_start": [0] * len(right)}
        score = squad({"prediction_text": text, "id": "0"}, {"answers": said, "id": "0"})
        scores[row] = float(score["exact_match"]) / 100, float(score["f1"]) / 100
    return scores


def rouge_scores(written: Sequence[str], targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return (n,) ROUGE-1, -2 and -L F of words of each text (Lin 2004), by metric.

    Case does not count, and no sign but a-z and 0-9 does.
    """
    from torchmetrics.functional.text import rouge_score

    keys = {"rouge1": "rouge1_f", "rouge2": "rouge2_f", "rougeL": "rougel_f"}
    scores = {name: np.empty(len(written)) for name in keys.values()}
    for row, (text, target) in enumerate(zip(written, targets, strict=True)):
        found = rouge_score(text, target, rouge_keys=tuple(keys))
        for key, name in keys.items():
            scores[name][row] = float(found[f"{key}_fmeasure"])
    return scores


def mean_loss(
    model: TextModel, examples: Examples, objective: Objective, inputs: tuple[Tensor, ...] | None = None
) -> float:
    """Return the mean of the objective over examples, dropout off.

    Args:
        model: Whose objective it is.
        examples: What it is measured on.
        objective: What `model.objective(examples)` returned.
        inputs: What `model.inputs(examples.text)` returned, if the caller has it already.
    """
    total = sum(
        float(objective(scores, rows.to(model.device)).sum()) for rows, scores in scored(model, examples, inputs)
    )
    return total / len(examples)


def _by_word(tags: list[Tensor], examples: Examples, outside: int) -> list[NDArray[np.int64]]:
    by_word = []
    for row, numbers in enumerate(tags):
        words = examples.text.words[row].numpy()
        predicted = np.full(len(examples.words[row]), outside, dtype=np.int64)
        starts = np.flatnonzero(words >= 0)
        predicted[words[starts]] = numbers.numpy()[starts]
        by_word.append(predicted)
    return by_word
