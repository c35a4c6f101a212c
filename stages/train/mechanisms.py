"""Fit one seed centrally, by the mechanism of the cell."""

import math
from typing import TYPE_CHECKING, Any, assert_never

import pandas as pd

from stages.common.errors import SettingError
from stages.common.measurements import Measurement, no_guarantee
from stages.common.streams import identity
from stages.fitting import ordinary
from stages.fitting.cell import Data, Fitted, loss_history
from stages.fitting.stopping import EarlyStopping
from stages.models import files
from stages.models.classifier import TextClassifier
from stages.models.settings import AnyModelSettings, ModelSettings
from stages.models.text_model import Objective, TextModel
from stages.train.settings import PrivacySettings, TrainSettings

if TYPE_CHECKING:
    from stages.privacy.bounds import Bound
    from stages.privacy.clipping import Clipping


def fit(settings: TrainSettings, model: AnyModelSettings, data: Data, seed: int) -> Fitted:
    """Return the model that one seed of a training cell gives."""
    untrained = files.build(model, data.vocabulary.labels, data.vocabulary.tags, seed)
    match settings.mechanism:
        case "none":
            return _fit_ordinarily(settings, untrained, data, seed)
        case "dpsgd" | "edpsgd":
            assert settings.privacy is not None
            return _fit_privately(settings, settings.privacy, model.max_length, untrained, data, seed)
    assert_never(settings.mechanism)


def _fit_ordinarily(settings: TrainSettings, model: TextModel, data: Data, seed: int) -> Fitted:
    stopping = None
    if settings.early_stopping is not None:
        stopping = EarlyStopping(model, data.valid, settings.early_stopping.after)
    objective, measured = model.objective(data.train), {}
    if settings.status is not None and settings.sensitivity_penalty is not None:
        objective = _penalised(model, objective, data, settings.status, settings.sensitivity_penalty, seed)
        measured["train/sensitivity_penalty"] = Measurement(settings.sensitivity_penalty)
    losses = ordinary.fit(
        model,
        model.inputs(data.train.text),
        objective,
        settings.batch_size,
        settings.epochs,
        settings.learning_rate,
        seed,
        stopping,
    )
    history = loss_history(losses)
    if stopping is not None:
        stopping.restore()
        history = pd.concat([history, loss_history(stopping.losses, "valid/loss")], ignore_index=True)
    return Fitted(model, history, no_guarantee("trained without a privacy mechanism"), measured)


def _penalised(model: TextModel, objective: Objective, data: Data, named: str, strength: float, seed: int) -> Objective:
    # Other cells do without it.
    from stages.models.fitted import load_named
    from stages.sensitivity.penalty import penalised
    from stages.sensitivity.status import status_weights

    status, own = load_named(named, seed), model.settings
    if not isinstance(model, TextClassifier) or not isinstance(own, ModelSettings):
        problem = f"the model is {own.called}, and predicts no label"
        raise SettingError("sensitivity_penalty", problem, "train a classifier, or leave it out")
    if (status.settings.encoder, status.settings.max_length) != (own.encoder, own.max_length):
        problem = f"`{named}` reads texts as other tokens than this cell's model does"
        raise SettingError("status", problem, "name a cell whose model has the same `encoder` and `max_length`")
    return penalised(model, objective, data.train.text, status_weights(status, data.train.text), strength)


def _fit_privately(
    settings: TrainSettings,
    asked: PrivacySettings,
    max_length: int,
    model: TextModel,
    data: Data,
    seed: int,
) -> Fitted:
    # The accountant takes seconds to import; ordinary training does without it.
    from stages.privacy import accounting
    from stages.train import dpsgd

    # With canaries by what is expected, not by what their coins said: the mechanism is fixed before they are thrown.
    examples = len(data.train) if data.canaries is None else data.uncanaried + len(data.canaries) // 2
    probability = settings.batch_size / examples
    steps = settings.epochs * round(1 / probability)

    def mechanism(noise: float) -> accounting.Mechanism:
        return accounting.decaying(probability, steps, noise, asked.noise_decay, asked.group)

    noise = accounting.noise_multiplier(asked.epsilon, asked.delta, mechanism)
    run = mechanism(noise)
    bounds = _bounds(asked, model, max_length, seed)
    clipping = _clipping(asked, model, bounds)
    losses = dpsgd.train(
        model,
        data.train,
        mechanism(0.0) if asked.control == "no_noise" else run,
        settings.learning_rate,
        clipping,
        asked.clipping_norm,
        seed,
        asked.quantile,
        identity(_same_release(settings, asked)),
        examples,
    )
    privacy = accounting.statement(run, asked.delta, asked.clipping_norm)
    if bounds is not None:
        by_layer = {bound.name: asked.clipping_norm * bound.share for bound in bounds}
        privacy["layers"] = {"rule": asked.layers, "clipping_norms": by_layer}
    if asked.quantile is not None:
        multipliers = [asked.quantile.gradient_multiplier(phase.noise_multiplier) for phase in run.schedule]
        privacy["quantile"] = asked.quantile.model_dump() | {
            "gradient_noise_multipliers": multipliers,
            "last_clipping_norm": clipping.clipping_norm,
        }
    if asked.control:
        return Fitted(model, loss_history(losses), *_controlled(asked.control, privacy, noise))
    stated = ("epsilon", "replace_one_epsilon", "claimed_epsilon", "delta")
    measured = {f"train/{name}": Measurement(privacy[name]) for name in stated}
    measured["train/noise_multiplier"] = Measurement(noise)
    return Fitted(model, loss_history(losses), privacy, measured)


def _same_release(settings: TrainSettings, asked: PrivacySettings) -> TrainSettings:
    """Return the cell whose batches and noise this one has.

    Of a control, which guarantees nothing, it is the one that it is held against; and however gradients are clipped,
    the model is the same.
    """
    usual = asked.model_copy(update={"control": None, "clipping": "book_keeping"})
    return settings.model_copy(update={"privacy": usual})


def _bounds(asked: PrivacySettings, model: TextModel, max_length: int, seed: int) -> "list[Bound] | None":
    from stages.privacy import bounds
    from stages.train.public import random_losses

    match asked.layers:
        case "flat":
            return None
        case "equal":
            return bounds.equal(model)
        case "size":
            return bounds.by_size(model)
        case "public":
            if not isinstance(model, TextClassifier):
                problem = "public takes random texts with labels, which classifiers alone have"
                raise SettingError("privacy.layers", problem, "allowed for other models: flat, equal, size")
            return bounds.by_public_norms(model, random_losses(model, max_length, seed))
    assert_never(asked.layers)


def _clipping(asked: PrivacySettings, model: TextModel, bounds: "list[Bound] | None") -> "Clipping":
    from stages.privacy import references
    from stages.privacy.clipping import ClippedGradients

    norm = math.inf if asked.control == "no_clipping" else asked.clipping_norm
    match asked.clipping:
        case "book_keeping":
            return ClippedGradients(model, norm, asked.group, bounds)
        case "loop":
            return references.Loop(model, norm, asked.group, bounds)
        case "opacus_hooks" | "opacus_ghost":
            return references.Opacus(model, norm, ghost=asked.clipping == "opacus_ghost")
    assert_never(asked.clipping)


def _controlled(control: str, stated: dict[str, Any], noise: float) -> tuple[dict[str, Any], dict[str, Measurement]]:
    """Return privacy.json and measurements of a model that an audit must find to leak."""
    left_out = {"no_noise": "no noise was added", "no_clipping": "no gradient was clipped"}[control]
    privacy = no_guarantee(f"a control: {left_out}") | {"stated": stated}
    measured = {
        "train/stated_epsilon": Measurement(stated["epsilon"]),
        "train/delta": Measurement(stated["delta"]),
        "train/noise_multiplier": Measurement(0.0 if control == "no_noise" else noise),
    }
    return privacy, measured
