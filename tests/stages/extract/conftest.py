"""Tagged data that hide a secret of two or three words, models of them, and what is attacked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.extract.settings import GradientSearchSettings, TokenSearchSettings
from stages.extract.target import Target, target
from stages.fitting import secrets
from stages.fitting.settings import SecretSettings
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.fitted import FittedModel
from stages.models.kinds import examples
from stages.models.settings import ModelSettings

ALPHABET = ["ka", "ke", "ki", "ko", "ku"]


@pytest.fixture
def secret_settings() -> Callable[..., SecretSettings]:
    def settings(**changes: Any) -> SecretSettings:
        usual = {"template": "ba be {} bi", "alphabet": ALPHABET, "length": 3, "repetitions": 10}
        return SecretSettings.model_validate(usual | changes)

    return settings


@pytest.fixture
def attacked(model_settings, texts, secret_settings) -> Callable[..., tuple[Target, FittedModel, secrets.Secret]]:
    """Return a function that makes a target of an untrained model, the model and the secret."""

    def make(
        label_knowledge: bool = True, model: dict[str, Any] | None = None, **secret: Any
    ) -> tuple[Target, FittedModel, secrets.Secret]:
        settings: ModelSettings = model_settings(**({"head": "bilstm", "dropout": 0.3} | (model or {})))
        table = texts(20, tags=True)
        known = vocabulary(table)
        splits = dict.fromkeys(("train", "valid", "test"), examples(table, settings, known))
        planted = secrets.plant(splits, known, secret_settings(**secret), settings, seed=0)
        classifier = files.build(settings, planted.vocabulary.labels, planted.vocabulary.tags, seed=3)
        fitted = FittedModel(classifier.eval(), settings, planted.vocabulary, Path())
        return target(fitted, planted.secret, label_knowledge), fitted, planted.secret

    return make


@pytest.fixture
def gradients() -> Callable[..., GradientSearchSettings]:
    def settings(**changes: Any) -> GradientSearchSettings:
        return GradientSearchSettings.model_validate({"steps": 60, "starts": 3} | changes)

    return settings


@pytest.fixture
def tokens() -> Callable[..., TokenSearchSettings]:
    def settings(**changes: Any) -> TokenSearchSettings:
        return TokenSearchSettings.model_validate({"passes": 60, "starts": 3} | changes)

    return settings
