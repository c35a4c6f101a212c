"""Answers of questions: from what a source gives to texts, and the place in the text where the first one stands."""

from collections.abc import Mapping
from typing import Any

# For a message: what a value may be.
ALLOWED = "a text, a list of texts, or {text: [...], answer_start: [...]} as in SQuAD"
# Of an answer that does not stand where it should.
NOWHERE = -1


def well_formed(value: Any) -> bool:
    """Return whether a value is one of ALLOWED; white space at both ends of an answer is none of its text."""
    texts, starts = _parts(value)
    return (
        isinstance(texts, list)
        and all(isinstance(text, str) for text in texts)
        and isinstance(starts, list)
        and all(isinstance(start, int) for start in starts)
        and len(starts) in (0, len(texts))
    )


def is_empty(value: Any) -> bool:
    """Return whether a well-formed value holds no answer, as SQuAD 2 marks a question that has none."""
    return not any(text.strip() for text in _parts(value)[0])


def located(value: Any, text: str) -> tuple[list[str], int]:
    """Return the different answers with single spaces, and where the first one begins in the text with single spaces.

    Args:
        value: A well-formed value that holds an answer.
        text: As the source has it, which the places of SQuAD's answers count in; without them it is the first place.

    Returns:
        Answers and a number of characters; NOWHERE if the first answer does not stand there.
    """
    texts, starts = _parts(value)
    answers = [" ".join(answer.split()) for answer in texts]
    single = " ".join(text.split())
    # The sign stands for the answer's first character, so that a space before it is kept.
    start = len(" ".join(f"{text[: starts[0]]}\0".split())) - 1 if starts else single.find(answers[0])
    if not answers[0] or not single.startswith(answers[0], max(start, 0)):
        start = NOWHERE
    return list(dict.fromkeys(filter(None, answers))), start


def _parts(value: Any) -> tuple[Any, Any]:
    if isinstance(value, str):
        return [value], []
    if isinstance(value, Mapping):
        return value.get("text"), value.get("answer_start", [])
    return value, []
