"""Fit one seed centrally, by the mechanism of the cell."""

from typing import assert_never

from stages.common.measurements import Measurement
from stages.fitting import ordinary
from stages.fitting.cell import Data, Fitted, loss_history, no_guarantee
from stages.fitting.objective import examples_objective
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.settings import ModelSettings
from stages.train.settings import PrivacySettings, TrainSettings


def fit(settings: TrainSettings, model: ModelSettings, data: Data, seed: int) -> Fitted:
    """Return the model that one seed of a training cell gives."""
    classifier = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    match settings.mechanism:
        case "none":
            return _fit_ordinarily(settings, classifier, data, seed)
        case "dpsgd" | "edpsgd":
            assert settings.privacy is not None
            return _fit_privately(settings, settings.privacy, classifier, data, seed)
    assert_never(settings.mechanism)


def _fit_ordinarily(settings: TrainSettings, classifier: TextClassifier, data: Data, seed: int) -> Fitted:
    losses = ordinary.fit(
        classifier,
        classifier.inputs(data.train.text),
        examples_objective(data.train, classifier.device),
        settings.batch_size,
        settings.epochs,
        settings.learning_rate,
        seed,
    )
    return Fitted(classifier, loss_history(losses), no_guarantee("trained without a privacy mechanism"), {})


def _fit_privately(
    settings: TrainSettings, asked: PrivacySettings, classifier: TextClassifier, data: Data, seed: int
) -> Fitted:
    # The accountant takes seconds to import; ordinary training does without it.
    from stages.privacy import accounting
    from stages.train import dpsgd

    probability = settings.batch_size / len(data.train)
    steps = settings.epochs * round(1 / probability)

    def mechanism(noise: float) -> accounting.Mechanism:
        return accounting.decaying(probability, steps, noise, asked.noise_decay, asked.group)

    noise = accounting.noise_multiplier(asked.epsilon, asked.delta, mechanism)
    run = mechanism(noise)
    losses = dpsgd.train(classifier, data.train, run, settings.learning_rate, asked.clipping_norm, seed)
    privacy = accounting.statement(run, asked.delta, asked.clipping_norm)
    stated = ("epsilon", "replace_one_epsilon", "claimed_epsilon", "delta")
    measured = {f"train/{name}": Measurement(privacy[name]) for name in stated}
    measured["train/noise_multiplier"] = Measurement(noise)
    return Fitted(classifier, loss_history(losses), privacy, measured)
