"""The kinds of models: one table says what is built of which settings, and so how data are read for it."""

import pandas as pd

from stages.common.settings import Settings
from stages.models.classifier import TextClassifier
from stages.models.examples import Examples, Vocabulary
from stages.models.language import LanguageModel
from stages.models.masked import MaskedLanguageModel
from stages.models.next_word import NextWordModel
from stages.models.settings import (
    AnyModelSettings,
    ByteNetwork,
    LanguageModelSettings,
    MaskedLanguageModelSettings,
    ModelSettings,
    PretrainedNetwork,
    SpanSettings,
    WordNetwork,
)
from stages.models.span import SpanModel
from stages.models.text_model import TextModel

KINDS: dict[type[Settings], type[TextModel]] = {
    ModelSettings: TextClassifier,
    SpanSettings: SpanModel,
    MaskedLanguageModelSettings: MaskedLanguageModel,
    ByteNetwork: LanguageModel,
    PretrainedNetwork: LanguageModel,
    WordNetwork: NextWordModel,
}


def kind(settings: AnyModelSettings) -> type[TextModel]:
    """Return the class of a model, which a language model has by its network."""
    return KINDS[type(settings.network if isinstance(settings, LanguageModelSettings) else settings)]


def examples(table: pd.DataFrame, settings: AnyModelSettings, known: Vocabulary) -> Examples:
    """Encode a prepared table for a model; InputError for a label that training never saw."""
    return kind(settings).read(table, settings, known)
