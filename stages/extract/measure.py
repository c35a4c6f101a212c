"""How well secrets were extracted, and how well a guess would do."""

from stages.common.measurements import Measurement
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
        "canary_repetitions": Measurement(trial.repetitions),
        "chance_canary_accuracy": Measurement(1 / candidates),
        "chance_canary_token_accuracy": Measurement(1 / trial.alphabet),
        "chance_canary_hamming": Measurement(1 - 1 / trial.alphabet),
        "chance_canary_exposure": Measurement(chance_exposure(candidates)),
    }
    return {f"canaries/{name}": value for name, value in values.items()}
