"""Questions and the contexts that answer them, as a span model reads them: pairs of texts, and where answers stand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.models.encoders import EncodedText, padded_ids, tokenizer
from stages.models.settings import SpanSettings

# Of an answer that is cut off with its end of the context.
CUT_OFF = -1
CONTEXT = 1  # the second of the two texts


@dataclass(frozen=True)
class Reading:
    """What n questions are asked of.

    Attributes:
        contexts: n texts.
        answers: The texts of each question's answers, any of which is right.
        spans: (n, 2) first and last token of the answer that is trained on; CUT_OFF if not all of it is read.
        characters: (n, length, 2) where each token begins and ends in its context; 0 for other tokens.
    """

    contexts: list[str]
    answers: list[list[str]]
    spans: Tensor
    characters: Tensor

    def __getitem__(self, rows: NDArray[np.int64]) -> "Reading":
        return Reading(
            [self.contexts[row] for row in rows],
            [self.answers[row] for row in rows],
            self.spans[rows],
            self.characters[rows],
        )

    def texts(self, spans: Tensor) -> list[str]:
        """Return what stands from the first to the last token of spans (n, 2)."""
        first, last = (self.characters[torch.arange(len(spans)), place] for place in spans.T)
        places = zip(self.contexts, first[:, 0].tolist(), last[:, 1].tolist(), strict=True)
        return [context[begin:end] for context, begin, end in places]


def read(table: pd.DataFrame, settings: SpanSettings) -> tuple[EncodedText, Reading]:
    """Encode a prepared table: question and context as a pair, the context cut at the model's `max_length`.

    Raises:
        InputError: The table has no questions, an answer does not stand where it should, or a question leaves no
            room for a context.
    """
    if missing := [name for name in ("question", "answers", "answer_start") if name not in table]:
        problem = f"has no column `{missing[0]}`, and a span model reads questions"
        raise InputError("prepared data", problem, "declare `question` and `answers` under `columns` of the data set")
    contexts, answers = list(table["text"]), [list(texts) for texts in table["answers"]]
    starts = [int(start) for start in table["answer_start"]]
    for row, (context, texts, start) in enumerate(zip(contexts, answers, starts, strict=True)):
        if not texts or start < 0 or not context.startswith(texts[0], start):
            problem = f"answer {texts[:1]} is not at character {start} of its context"
            raise InputError(f"prepared data: example {table['example_id'].iloc[row]}", problem, "prepare it again")
    encodings = _pairs(list(table["question"]), contexts, settings)
    ids, lengths = padded_ids([encoding.ids for encoding in encodings])
    characters = np.zeros((*ids.shape, 2), dtype=np.int32)
    parts, spans = np.empty((len(ids), 2), dtype=np.int64), np.empty((len(ids), 2), dtype=np.int64)
    for row, encoding in enumerate(encodings):
        own = np.flatnonzero(np.array(encoding.sequence_ids, dtype=float) == CONTEXT)
        characters[row, own] = np.array(encoding.offsets)[own]
        parts[row] = own[0], own[-1] + 1
        spans[row] = _span(characters[row], own, starts[row], starts[row] + len(answers[row][0]))
    text = EncodedText(
        torch.from_numpy(ids),
        torch.from_numpy(lengths),
        torch.full(ids.shape, -1, dtype=torch.int16),
        torch.from_numpy(parts),
    )
    return text, Reading(contexts, answers, torch.from_numpy(spans), torch.from_numpy(characters))


def _pairs(questions: Sequence[str], contexts: Sequence[str], settings: SpanSettings) -> list[Encoding]:
    tokenize = tokenizer(settings.encoder, settings.max_length)
    _check_room(tokenize, questions, settings.max_length)
    tokenize.enable_truncation(settings.max_length, strategy="only_second")
    encodings: list[Encoding] = tokenize.encode_batch(list(zip(questions, contexts, strict=True)))
    return encodings


def _check_room(tokenize: Tokenizer, questions: Sequence[str], max_length: int) -> None:
    tokenize.no_truncation()
    asked = tokenize.encode_batch(list(questions), add_special_tokens=False)
    needed = max(len(encoding.ids) for encoding in asked) + tokenize.num_special_tokens_to_add(is_pair=True) + 1
    if needed > max_length:
        problem = f"{max_length} leaves a question of the data no token of its context"
        raise InputError(f"{PARAMETERS}: models: max_length", problem, f"give {needed} or more")


def _span(
    characters: NDArray[np.int32], own: NDArray[np.int64], begin: int, end: int
) -> tuple[int, int] | tuple[np.int64, np.int64]:
    """Return the first and last of the tokens `own` that have a part in a context's characters from begin to end."""
    if characters[own[-1], 1] < end:
        return CUT_OFF, CUT_OFF
    first = own[np.searchsorted(characters[own, 1], begin, side="right")]
    last = own[np.searchsorted(characters[own, 0], end, side="left") - 1]
    return first, last
