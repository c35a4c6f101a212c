"""Tokens of texts that are measured whole, of masked and of causal language models alike."""

from tokenizers import Tokenizer

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.models import encoders, pretrained
from stages.models.language import LanguageModel
from stages.models.masked import MaskedLanguageModel

Tokens = list[int]
AnyLanguageModel = LanguageModel | MaskedLanguageModel
# What stands for words that a vocabulary lacks.
UNKNOWN = ("[UNK]", "<unk>")


def whole_tokenizer(model: AnyLanguageModel) -> Tokenizer:
    """Return a model's tokenizer, with its marks at a text's ends, which cuts nothing."""
    if isinstance(model, MaskedLanguageModel):
        tokenize = encoders.tokenizer(model.settings.encoder, model.settings.max_length)
    else:
        tokenize = pretrained.tokenizer(model.settings)
    tokenize.no_truncation()
    return tokenize


def unknown_tokens(tokenize: Tokenizer) -> set[int]:
    """Return the tokens that stand for what a vocabulary lacks."""
    return {token for mark in UNKNOWN if (token := tokenize.token_to_id(mark)) is not None}


def check_length(model: AnyLanguageModel, longest: int) -> None:
    """Raise InputError if a model reads fewer tokens than `longest`: of two texts that are cut the rest may be one."""
    if longest > model.settings.max_length:
        problem = f"{model.settings.max_length} would cut a sentence of {longest} tokens that is measured"
        raise InputError(f"{PARAMETERS}: models: max_length", problem, f"train a model of {longest} or more")
