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
        case "dpsgd":
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
    from stages.train import accounting, dpsgd

    probability = settings.batch_size / len(data.train)
    steps = settings.epochs * round(1 / probability)
    noise = accounting.noise_multiplier(asked.epsilon, probability, steps, asked.delta)
    losses = dpsgd.train(
        classifier, data.train, probability, steps, settings.learning_rate, noise, asked.clipping_norm, seed
    )
    privacy = accounting.statement(noise, probability, steps, asked.delta, asked.clipping_norm)
    measured = {
        "train/epsilon": Measurement(privacy["epsilon"]),
        "train/noise_multiplier": Measurement(noise),
    }
    return Fitted(classifier, loss_history(losses), privacy, measured)
