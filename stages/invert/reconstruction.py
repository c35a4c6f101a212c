"""Attack the updates of one seed's clients, and say how much of their texts came back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.errors import SettingError
from stages.common.measurements import Measurement
from stages.common.streams import generator, identity, torch_seed
from stages.invert.client import Client, client, encoder, marks, update
from stages.invert.overlap import Overlap, Text, matched, overlap
from stages.invert.reading import bag, ordered, precision_and_recall
from stages.invert.search import Problem, search
from stages.invert.settings import InvertSettings
from stages.models.encoders import tokenizer
from stages.models.examples import Examples
from stages.models.fitted import FittedModel
from stages.privacy.noise import Noise

# Random guesses of which the chance level is the mean.
GUESSES = 20


@dataclass(frozen=True)
class Reconstruction:
    """One private text and what stands for it.

    Attributes:
        seed: Of the model.
        client: Number of its client.
        example_id: Of the text.
        private: Its tokens, joined by spaces.
        answer: Those of its reconstruction.
        bag_precision: Of the client's bag.
        bag_recall: The same.
        token_accuracy: Share of its tokens that are right and in their place.
        rouge1: F1 of its tokens.
        rouge2: F1 of pairs of tokens.
        rougel: F1 of the longest common subsequence.
        read_token_accuracy: Share of its tokens that are right and in their place, as read off without a search.
        chance_token_accuracy: Of tokens drawn at random from the candidates; the same below.
        chance_rouge1: F1 of tokens.
        chance_rouge2: F1 of pairs.
        chance_rougel: F1 of the longest common subsequence.
        objective: Of the client's answer.
        objective_of_truth: Of its private texts; nearly 0 of `dlg` and `tag` without noise.
    """

    seed: int
    client: int
    example_id: str
    private: str
    answer: str
    bag_precision: float
    bag_recall: float
    token_accuracy: float
    rouge1: float
    rouge2: float
    rougel: float
    read_token_accuracy: float
    chance_token_accuracy: float
    chance_rouge1: float
    chance_rouge2: float
    chance_rougel: float
    objective: float
    objective_of_truth: float


MEASURED = (
    *("bag_precision", "bag_recall", "read_token_accuracy"),
    *(f"{chance}{name}" for chance in ("", "chance_") for name in Overlap._fields),
)


def reconstruct(
    fitted: FittedModel, examples: Examples, settings: InvertSettings, seed: int, noise_multiplier: float = 0.0
) -> list[Reconstruction]:
    """Return what is reconstructed of the texts of one seed.

    Args:
        fitted: The model, whose parameters stay as they are.
        examples: The split that private texts are drawn from.
        settings: Of the attack, and of clipping.
        seed: Of texts, noise, starts and guesses.
        noise_multiplier: Of the updates, in clipping norms.

    Raises:
        SettingError: The model cannot be attacked, or there are too few texts.
    """
    model = fitted.classifier.eval()
    encoder(model)
    around = marks(fitted)
    private, twins = pairs(examples, settings.texts, seed)
    noise = Noise(torch_seed(seed, "noise of updates", *identity(settings)), model.device)
    found = []
    for number, start in enumerate(range(0, settings.texts, settings.batch_size)):
        rows = private[start : start + settings.batch_size]
        sent = twins[start : start + settings.batch_size] if settings.unrelated else rows
        attacked = client(examples[sent], around, model.device)
        target = client(examples[rows], around, model.device)
        found += _attack(
            fitted, attacked, target, examples.example_ids[rows], settings, noise_multiplier, noise, seed, number
        )
    return found


def pairs(examples: Examples, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw private texts, and for each a twin of the same label and length; no text is in two places.

    Twins are what a control is sent. All cells draw texts that have one, so that they attack the same texts.

    Raises:
        SettingError: There are too few.
    """
    order = generator(seed, "attacked texts").permutation(len(examples))
    waiting: dict[tuple[int, int], int] = {}
    found: dict[int, int] = {}
    for row in order.tolist():
        kind = (int(examples.labels[row]), int(examples.text.lengths[row]))
        if (first := waiting.pop(kind, None)) is None:
            waiting[kind] = row
        else:
            found[first] = row
    if len(found) < count:
        problem = f"{count} is more than the {len(found)} of the split that have a twin of the same label and length"
        raise SettingError("texts", problem, "give fewer, or another split")
    private = np.array([row for row in order.tolist() if row in found][:count], dtype=np.int64)
    return private, np.array([found[row] for row in private.tolist()], dtype=np.int64)


def measure(found: Sequence[Reconstruction]) -> dict[str, Measurement]:
    """Return the means over the texts of one seed, which share a bag with their batch; seeds give intervals."""
    return {
        f"gradient/{name}": Measurement(float(np.mean([getattr(each, name) for each in found])), len(found))
        for name in MEASURED
    }


def _attack(
    fitted: FittedModel,
    attacked: Client,
    target: Client,
    example_ids: NDArray[np.object_],
    settings: InvertSettings,
    noise_multiplier: float,
    noise: Noise,
    seed: int,
    number: int,
) -> list[Reconstruction]:
    """Return what the update of one client says of the texts of `target`, which but in a control are its own."""
    model, around = fitted.classifier, marks(fitted)
    seen = update(model, attacked, noise, settings.clipping_norm, noise_multiplier)
    sent = {token for text in attacked.texts(attacked.ids) for token in text}
    shown = bag(seen, around, len(sent) if noise_multiplier else None)
    private = target.texts(target.ids)
    shares = precision_and_recall(set(shown.tolist()), {token for text in private for token in text})
    candidates = shown if settings.within_bag else _all_but(around, len(seen.table)).to(shown.device)
    problem = Problem(model, attacked.known, seen.others, candidates, settings)
    ids, objective = search(problem, generator(seed, "inversion starts", number))
    of_truth = float(problem.objective(problem.table[attacked.ids]))
    answers = attacked.texts(ids)
    read = attacked.texts(ordered(seen, candidates, ids.shape[1]).expand_as(ids))
    own = matched(private, answers)
    chance = _chance(private, candidates.cpu().numpy(), generator(seed, "guesses", number))
    tokenize = tokenizer(fitted.settings.encoder, fitted.settings.max_length)

    def words(text: Text) -> str:
        return " ".join(str(tokenize.id_to_token(token)) for token in text)

    return [
        Reconstruction(
            seed,
            number,
            str(example_ids[row]),
            words(text),
            words(answers[own[row]]),
            *shares,
            *overlap(text, answers[own[row]]),
            overlap(text, read[row]).token_accuracy,
            *chance[row],
            objective,
            of_truth,
        )
        for row, text in enumerate(private)
    ]


def _all_but(around: Tensor, tokens: int) -> Tensor:
    every = torch.arange(1, tokens)
    return every[~torch.isin(every, around)]


def _chance(private: list[list[int]], candidates: NDArray[np.int64], draws: np.random.Generator) -> list[Overlap]:
    """Return the mean overlaps of texts whose tokens are guesses, matched like those of an answer."""
    total = np.zeros((len(private), len(Overlap._fields)))
    for _ in range(GUESSES):
        guessed = [draws.choice(candidates, len(text)).tolist() for text in private]
        own = matched(private, guessed)
        total += np.array([overlap(text, guessed[other]) for text, other in zip(private, own, strict=True)])
    return [Overlap(*row) for row in (total / GUESSES).tolist()]
