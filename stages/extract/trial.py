"""One trial: attack one seed's model, and rank its secret among all codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from stages.extract import exhaustive, gradient_search, likelihood, token_search
from stages.extract.codes import codes
from stages.extract.ranking import exposure, rank
from stages.extract.settings import GradientSearchSettings, TokenSearchSettings
from stages.extract.target import target
from stages.fitting.secrets import Secret
from stages.models.fitted import FittedModel
from stages.models.language import LanguageModel


@dataclass(frozen=True)
class Trial:
    """What was extracted from one seed's model; losses are discrete, and all of one computation.

    Attributes:
        seed: Of the model.
        secret: The code that the training data hide, or with decoys do not hide; words joined by spaces.
        answer: That of the attack.
        oracle: The code with the lowest loss of all.
        secret_loss: Of the secret.
        answer_loss: Of the answer, never below that of the oracle.
        oracle_loss: Of the oracle's code.
        wrong: Words of the answer that are not those of the secret.
        length: Words of the secret.
        alphabet: Candidates for each word.
        rank: Of the secret among all codes.
        exposure: In bits.
        repetitions: Canaries in the training data.
        steps: Of the attack: of Adam, passes over the words, or words that a language model completes.
        visited: Codes that the attack found likeliest at some step, or tried.
    """

    seed: int
    secret: str
    answer: str
    oracle: str
    secret_loss: float
    answer_loss: float
    oracle_loss: float
    wrong: int
    length: int
    alphabet: int
    rank: float
    exposure: float
    repetitions: int
    steps: int
    visited: int

    @property
    def candidates(self) -> int:
        """Return how many codes there are."""
        return int(self.alphabet**self.length)


def trial_of_classifier(
    fitted: FittedModel, secret: Secret, search: GradientSearchSettings | TokenSearchSettings, seed: int
) -> Trial:
    """Return what is extracted from one model.

    Raises:
        SettingError: No candidates can be mixed into what the model reads, see `target`.
    """
    if isinstance(search, TokenSearchSettings):
        attacked = target(fitted, secret, search.label_knowledge, signal="label")
        found = token_search.attack(attacked, search, seed)
    else:
        attacked = target(fitted, secret, search.label_knowledge)
        found = gradient_search.attack(attacked, search, seed)
    return _trial(seed, secret, exhaustive.all_losses(attacked).cpu(), found.code, found.steps, found.visited)


def trial_of_language_model(model: LanguageModel, secret: Secret, seed: int) -> Trial:
    """Return what is extracted from one language model: the attack takes the likeliest word at each place.

    Raises:
        SettingError: The words of the secret are not as many tokens each.
    """
    likelihood.check(model, secret)
    losses = likelihood.all_losses(model, secret).cpu()
    return _trial(seed, secret, losses, likelihood.likeliest(model, secret), steps=len(secret.code), visited=1)


def _trial(seed: int, secret: Secret, losses: Tensor, found: tuple[int, ...], steps: int, visited: int) -> Trial:
    # All by the table that the secret is ranked in, so that no rounding puts the answer before the oracle's.
    length, alphabet = len(secret.code), len(secret.alphabet)
    own, answer = (int(np.ravel_multi_index(code, (alphabet,) * length)) for code in (secret.code, found))
    best = losses.argmin()
    place = rank(losses, own)

    def words(code: Sequence[int]) -> str:
        return " ".join(secret.alphabet[index] for index in code)

    return Trial(
        seed=seed,
        secret=words(secret.code),
        answer=words(found),
        oracle=words(codes(best[None], length, alphabet)[0].tolist()),
        secret_loss=float(losses[own]),
        answer_loss=float(losses[answer]),
        oracle_loss=float(losses[best]),
        wrong=sum(one != other for one, other in zip(found, secret.code, strict=True)),
        length=length,
        alphabet=alphabet,
        rank=place,
        exposure=exposure(len(losses), place),
        repetitions=secret.copies["train"],
        steps=steps,
        visited=visited,
    )
