"""What a model says of examples, and how well that agrees with them: predictions, losses, and their measures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.common.measurements import BOOTSTRAP_REPLICATES, CONFIDENCE, Measurement
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


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return the (start, end, type) spans of BIO tags; an I- that continues nothing begins a span, as in conlleval."""
    found: set[tuple[int, int, str]] = set()
    start, kind = -1, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if start >= 0 and (prefix != "I" or name != kind):
            found.add((start, position, kind))
            start = -1
        if prefix in ("B", "I") and start < 0:
            start, kind = position, name
    return found


def span_f1(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], seed: int) -> Measurement:
    """Return micro F1 over exact spans, with a percentile bootstrap over texts."""
    counts = np.array(
        [[len(g & f), len(g) + len(f)] for g, f in zip(map(spans, gold), map(spans, found), strict=True)]
    ).reshape(-1, 2)
    total = counts.sum(axis=0)
    value = _f1(total[None])[0]
    low, high = _interval(_f1(_resampled(counts, seed)))
    return Measurement(float(value), len(gold), low, high)


def perplexity(losses: NDArray[np.float64], predicted: NDArray[np.int64], seed: int) -> Measurement:
    """Return exp of the mean loss of all tokens, with a percentile bootstrap over texts.

    Args:
        losses: (n,) sums of the losses of each text's tokens, in nats.
        predicted: (n,) how many tokens those are.
        seed: Of the bootstrap.
    """
    sums = np.stack([losses, predicted], axis=1)
    value, *_ = _perplexity(sums.sum(axis=0)[None])
    low, high = _interval(_perplexity(_resampled(sums, seed)))
    return Measurement(float(value), len(losses), low, high)


def share(right: NDArray[np.int64], words: NDArray[np.int64], seed: int) -> Measurement:
    """Return the share of all words that are right, 0 of none, with a percentile bootstrap over texts.

    Args:
        right: (n,) how many words of each text are.
        words: (n,) how many it has.
        seed: Of the bootstrap.
    """
    counts = np.stack([right, words], axis=1)
    value, *_ = _share(counts.sum(axis=0)[None])
    low, high = _interval(_share(_resampled(counts, seed)))
    return Measurement(float(value), len(words), low, high)


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


def mean(values: NDArray[np.float64], seed: int) -> Measurement:
    """Return the mean of a value of each of n texts, with a percentile bootstrap over texts."""
    low, high = _interval(_resampled(values[:, None], seed)[:, 0] / len(values))
    return Measurement(float(values.mean()), len(values), low, high)


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


def _perplexity(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(sums[:, 0] / sums[:, 1])


def _resampled(sums: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return (replicates, columns) sums over texts drawn anew, of (texts, columns)."""
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=BOOTSTRAP_REPLICATES)
    resampled: NDArray[Any] = draws @ sums
    return resampled


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return 2 * _share(counts)


def _share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(counts[:, 0], counts[:, 1], out=np.zeros(len(counts)), where=counts[:, 1] > 0)


def _by_word(tags: list[Tensor], examples: Examples, outside: int) -> list[NDArray[np.int64]]:
    by_word = []
    for row, numbers in enumerate(tags):
        words = examples.text.words[row].numpy()
        predicted = np.full(len(examples.words[row]), outside, dtype=np.int64)
        starts = np.flatnonzero(words >= 0)
        predicted[words[starts]] = numbers.numpy()[starts]
        by_word.append(predicted)
    return by_word
