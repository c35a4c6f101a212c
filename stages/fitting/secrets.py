"""A secret in the training data: copies of a canary, which is a pattern that random words complete.

Canary extraction asks whether an attacker who has the model can complete the pattern (Parikh et al. 2022, "Canary
Extraction in Natural Language Understanding Models"). The canary has an intent of its own, its first secret word the
tag B-canary, the others I-canary and the pattern O; copies go into validation and test data at the ratio of the
training data. Decoys are the control: as many copies of the pattern, each with a code of its own, none the secret.

A language model reads the canary as a text like any other, and its labels and tags are not looked at (Carlini et al.
2019, "The Secret Sharer").
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stages.common import artifacts
from stages.common.errors import SettingError
from stages.common.streams import generator
from stages.fitting.settings import OPENING, SecretSettings
from stages.models.encoders import tokenizer
from stages.models.examples import Examples, Vocabulary, joined
from stages.models.kinds import examples
from stages.models.pretrained import tokenizer as language_tokenizer
from stages.models.settings import AnyModelSettings, LanguageModelSettings, ModelSettings

LABEL, OUTSIDE, BEGIN, INSIDE = "canary", "O", "B-canary", "I-canary"
FILE = "secret.json"


@dataclass(frozen=True)
class Secret:
    """What the training data of one seed hide, or with decoys do not hide.

    Attributes:
        template: The pattern; the code stands where OPENING does.
        alphabet: Words that a code may have.
        code: Index in `alphabet` of each word of the secret.
        decoys: Whether the copies had other codes, so that the model never saw the secret.
        copies: Split -> how many canaries were put into it.
    """

    template: str
    alphabet: list[str]
    code: list[int]
    decoys: bool
    copies: dict[str, int]


class Planted(NamedTuple):
    """Data with a secret; in every split the canaries come after its own examples."""

    vocabulary: Vocabulary
    splits: dict[str, Examples]
    secret: Secret


def check(settings: SecretSettings, known: Vocabulary, model: AnyModelSettings) -> None:
    """Raise SettingError for a secret that these data or this model cannot hold."""
    if model.no_secret:
        raise SettingError("secret", *model.no_secret)
    if isinstance(model, LanguageModelSettings):
        _check_text(settings, model)
    elif isinstance(model, ModelSettings):
        _check_tagged(settings, known, model)


def _check_text(settings: SecretSettings, model: LanguageModelSettings) -> None:
    tokenize = language_tokenizer(model)
    _check_pattern(settings, tokenize)
    tokens = _tokens(tokenize, settings.alphabet, "secret.alphabet")
    _check_distinct(settings, tokens)
    tokenize.no_truncation()
    # The longest word there is, all the way.
    code = np.full((1, settings.length), np.argmax([len(tokens[word]) for word in settings.alphabet]))
    [canary] = canaries(settings.template, settings.alphabet, code)["text"]
    _check_length(len(tokenize.encode(canary).ids), model.max_length)


def _check_tagged(settings: SecretSettings, known: Vocabulary, model: ModelSettings) -> None:
    if not known.tags:
        raise SettingError("secret", "the data have no tags, and a canary has", "use data with tokens and tags")
    if taken := {LABEL, BEGIN, INSIDE} & {*known.labels, *known.tags}:
        raise SettingError("secret", f"the data have a `{min(taken)}` of their own", "rename it in the data")
    tokenize = tokenizer(model.encoder, model.max_length)
    _check_pattern(settings, tokenize)
    tokens = _tokens(tokenize, settings.alphabet, "secret.alphabet")
    first, *others = settings.alphabet
    for word in others:
        if len(tokens[word]) != len(tokens[first]):
            # A mixture of candidates is one of their tokens, place by place.
            problem = f"`{word}` is {len(tokens[word])} tokens of the model's encoder, `{first}` {len(tokens[first])}"
            raise SettingError("secret.alphabet", problem, "give words of as many tokens each")
    _check_distinct(settings, tokens)
    tokenize.no_truncation()
    [canary] = canaries(settings.template, settings.alphabet, np.zeros((1, settings.length), dtype=np.int64))["tokens"]
    special = model.encoder.kind == "transformer"
    _check_length(len(tokenize.encode(canary, is_pretokenized=True, add_special_tokens=special).ids), model.max_length)


def _check_pattern(settings: SecretSettings, tokenize: Tokenizer) -> None:
    _tokens(tokenize, [word for word in settings.template.split() if word != OPENING], "secret.template")


def _check_distinct(settings: SecretSettings, tokens: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(tokens.values())) < len(tokens):
        same = next(word for word in settings.alphabet[1:] if list(tokens.values()).count(tokens[word]) > 1)
        raise SettingError(
            "secret.alphabet", f"the model's tokenizer takes `{same}` for another entry", "give one of them"
        )


def _check_length(longest: int, most: int) -> None:
    if longest > most:
        problem = f"the canary is {longest} tokens and the model reads {most}"
        raise SettingError("secret.length", problem, "give a shorter one, or a larger max_length")


def plant(
    splits: Mapping[str, Examples], known: Vocabulary, settings: SecretSettings, model: AnyModelSettings, seed: int
) -> Planted:
    """Return the data with a secret of this seed's own; `check` has passed.

    Args:
        splits: Examples of `train`, `valid` and `test`.
        known: Labels and tags of the data.
        settings: The pattern, and how often it is repeated in `train`.
        model: The model that reads the examples.
        seed: Of the secret and of decoys.

    Raises:
        SettingError: There are more repetitions than training examples.
    """
    size = len(splits["train"])
    if settings.repetitions > size:
        problem = f"{settings.repetitions} is more than the {size} training examples"
        raise SettingError("secret.repetitions", problem, "give fewer")
    code = generator(seed, "secret").integers(len(settings.alphabet), size=settings.length)
    copies = {split: round(settings.repetitions / size * len(own)) for split, own in splits.items()}
    total = sum(copies.values())
    codes = _decoys(code, total, settings, seed) if settings.decoys else np.tile(code, (total, 1))
    vocabulary = _extended(known, settings.length) if model.classifies else known
    planted = examples(canaries(settings.template, settings.alphabet, codes), model, vocabulary)
    starts = np.cumsum([0, *copies.values()])
    parts = {
        split: joined(own, planted[np.arange(start, start + copies[split])])
        for (split, own), start in zip(splits.items(), starts[:-1], strict=True)
    }
    secret = Secret(settings.template, settings.alphabet, code.tolist(), settings.decoys, copies)
    return Planted(vocabulary, parts, secret)


def canaries(template: str, alphabet: Sequence[str], codes: NDArray[np.int64]) -> pd.DataFrame:
    """Return the pattern completed by codes (n, length), indices in the alphabet, as a prepared table of n rows."""
    pattern = template.split()
    place = pattern.index(OPENING)
    before, after = pattern[:place], pattern[place + 1 :]
    hidden = [[alphabet[index] for index in code] for code in codes]
    tags = [OUTSIDE] * len(before) + [BEGIN] + [INSIDE] * (codes.shape[1] - 1) + [OUTSIDE] * len(after)
    tokens = [[*before, *code, *after] for code in hidden]
    return pd.DataFrame(
        {
            "example_id": [f"canary-{number}" for number in range(len(tokens))],
            "text": [" ".join(words) for words in tokens],
            "label": LABEL,
            "tokens": tokens,
            "tags": [tags] * len(tokens),
        }
    )


def write(folder: Path, secret: Secret) -> None:
    """Write the secret beside the model that was trained on it."""
    artifacts.write_json(folder / FILE, asdict(secret))


def read(folder: Path) -> Secret:
    """Return the secret that `write` left in a model's folder; InputError if there is none."""
    return Secret(**artifacts.read_json(folder / FILE))


def _extended(known: Vocabulary, length: int) -> Vocabulary:
    # After the data's own, whose indices stay. A tag that no canary has is no tag.
    needed = [OUTSIDE, BEGIN, INSIDE][: 2 if length == 1 else 3]
    return Vocabulary([*known.labels, LABEL], [*known.tags, *(tag for tag in needed if tag not in known.tags)])


def _decoys(secret: NDArray[np.int64], count: int, settings: SecretSettings, seed: int) -> NDArray[np.int64]:
    draws = generator(seed, "decoys")
    codes = draws.integers(len(settings.alphabet), size=(count, settings.length))
    while (same := (codes == secret).all(axis=1)).any():
        codes[same] = draws.integers(len(settings.alphabet), size=(int(same.sum()), settings.length))
    return codes


def _tokens(tokenize: Tokenizer, words: Sequence[str], setting: str) -> dict[str, tuple[int, ...]]:
    """Return the token ids of each word, as the tokenizer reads it within a text."""
    # Not every kind of tokenizer has a mark for what it does not know.
    unknown = getattr(tokenize.model, "unk_token", None)
    encoded = tokenize.encode_batch([[word] for word in words], is_pretokenized=True, add_special_tokens=False)
    for word, encoding in zip(words, encoded, strict=True):
        if not encoding.ids or unknown in encoding.tokens:
            raise SettingError(setting, f"the model's tokenizer does not know `{word}`", "give words that it knows")
    return {word: tuple(encoding.ids) for word, encoding in zip(words, encoded, strict=True)}
