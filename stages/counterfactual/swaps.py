"""Reading pairs of words, and swapping them in texts: every listed word gives way to its counterpart, case kept."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from stages.common.errors import InputError
from stages.common.packages import package_path
from stages.counterfactual.settings import SwapSettings

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def read_swaps(settings: SwapSettings) -> dict[str, str]:
    """Return word -> counterpart, both ways, in lower case; InputError for a line that is no pair."""
    pairs = []
    for name in settings.paths:
        path = package_path(settings.package, name) if settings.package else Path(name)
        if not path.is_file():
            raise InputError(str(path), "no such file", "give a file of tab-separated word pairs in params.yaml")
        pairs += _pairs(path)
    return both_ways(pairs)


def both_ways(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the pairs as a mapping in both directions.

    A word with several counterparts (her: him or his) keeps the first listed: without part-of-speech tags
    the others cannot be told apart.
    """
    swaps: dict[str, str] = {}
    for left, right in pairs:
        swaps.setdefault(left, right)
        swaps.setdefault(right, left)
    return swaps


def swap(text: str, swaps: Mapping[str, str]) -> str:
    """Return `text` with each listed word replaced; all other characters stay as they are."""
    return WORD.sub(lambda match: _swapped(match[0], swaps), text)


def words(text: str) -> set[str]:
    """Return the words of a text in lower case; of "mother's" also what is before the apostrophe."""
    said = {word.lower() for word in WORD.findall(text)}
    return said | {word.partition("'")[0] for word in said}


def swapped_texts(table: pd.DataFrame, swaps: Mapping[str, str]) -> pd.DataFrame:
    """Return a prepared table with text and tokens swapped, and whether that changed anything in `changed`."""
    swapped = table.assign(text=[swap(text, swaps) for text in table["text"]])
    if "tokens" in table:
        swapped["tokens"] = [[swap(token, swaps) for token in row] for row in table["tokens"]]
    return swapped.assign(changed=swapped["text"] != table["text"])


def cased(word: str, like: str) -> str:
    """Return `word` in the case of another: capitals, a capital first, or as it is listed."""
    if word == like:
        return word
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word


def _swapped(word: str, swaps: Mapping[str, str]) -> str:
    if counterpart := swaps.get(word.lower()):
        return cased(counterpart, word)
    # In "he's" and "mother's" the listed word ends at the apostrophe.
    stem, apostrophe, ending = word.partition("'")
    return cased(swaps.get(stem.lower(), stem), stem) + apostrophe + ending


def _pairs(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"not UTF-8 ({error})", "save it as UTF-8") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.strip().lower().split("\t")
        if words == [""]:
            continue
        if len(words) != 2:
            raise InputError(f"{path}, line {number}", repr(line), "a line is two words with a tab between")
        pairs.append((words[0].strip(), words[1].strip()))
    return pairs
