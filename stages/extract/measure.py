"""How well secrets were extracted, and how well a guess would do."""

from collections.abc import Sequence

from scipy.special import ndtri

from stages.common.measurements import CONFIDENCE, Measurement
from stages.extract.ranking import chance_exposure
from stages.extract.trial import Trial


def measure(trial: Trial) -> dict[str, Measurement]:
    """Return what one trial says; its words are no sample of words, so only trials over seeds give intervals."""
    wrong, length, candidates = trial.wrong / trial.length, trial.length, trial.candidates
    extracted, by_oracle = float(trial.wrong == 0), float(trial.oracle == trial.secret)
    values = {
        "canary_accuracy": Measurement(extracted, 1),
        "canary_token_accuracy": Measurement(1 - wrong, length),
        "canary_hamming": Measurement(wrong, length),
        "canary_exposure": Measurement(trial.exposure, candidates),
        "oracle_accuracy": Measurement(by_oracle, 1),
        "oracle_gap": Measurement(by_oracle - extracted, 1),
        "oracle_loss_gap": Measurement(trial.answer_loss - trial.oracle_loss, 1),
        "chance_canary_accuracy": Measurement(1 / candidates),
        "chance_canary_token_accuracy": Measurement(1 / trial.alphabet),
        "chance_canary_hamming": Measurement(1 - 1 / trial.alphabet),
        "chance_canary_exposure": Measurement(chance_exposure(candidates)),
    }
    return {f"canaries/{name}": value for name, value in values.items()}


def measure_pooled(trials: Sequence[Trial]) -> dict[str, Measurement]:
    """Return over all trials in how many the whole secret was extracted, by the attack and by the oracle."""
    extracted = sum(trial.wrong == 0 for trial in trials)
    by_oracle = sum(trial.oracle == trial.secret for trial in trials)
    return {
        "pooled/canary_accuracy": wilson(extracted, len(trials)),
        "pooled/oracle_accuracy": wilson(by_oracle, len(trials)),
    }


def wilson(successes: int, n: int) -> Measurement:
    """Return successes / n with its score interval (Wilson 1927), narrower than the exact one for so few trials."""
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    centre = (successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * (successes * (n - successes) / n + z**2 / 4) ** 0.5
    # Its ends are 0 and 1 at no success and at n, but for rounding.
    return Measurement(successes / n, n, max(centre - half, 0.0), min(centre + half, 1.0))
