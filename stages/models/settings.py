"""Settings of a model: `models.<name>` in params.yaml."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS, Settings, block, parse, shown

SplitAt = Literal["spaces", "punctuation"]
FOR_OTHER_MODELS = "train, federate and score take every model, extract language models"


class Weights(Settings):
    """Where pretrained weights come from, and their sha256: DVC watches no local folder, so there it must be given."""

    source: Literal["package", "directory", "hub"]
    package: str | None = None
    repository: str | None = None
    # A branch or tag may move; a number is then not repeatable.
    revision: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        needs = {"package": ["package"], "directory": ["sha256"], "hub": ["repository", "revision"]}[self.source]
        if missing := [name for name in needs if getattr(self, name) is None]:
            raise ValueError(f"source: {self.source} needs {' and '.join(missing)}")
        return self


class StaticEncoder(Weights):
    """A frozen table of token vectors: `weights` is a safetensors file, `tokenizer` a tokenizers JSON file."""

    kind: Literal["static"]
    weights: str
    tokenizer: str


class TransformerEncoder(Weights):
    """A pretrained transformer in a folder `path`.

    Attributes:
        layers: The first so many are kept, the others left out; all if None.
        trained_layers: Of those kept, the last so many are fine-tuned.
        trained_embeddings: Whether the vectors of tokens, positions and types, and their norm, are fine-tuned too.
    """

    kind: Literal["transformer"]
    path: str = "."
    layers: int | None = Field(None, ge=1)
    trained_layers: int = Field(ge=0)
    trained_embeddings: bool = False

    @model_serializer(mode="wrap")
    def _without_later_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that config.json of a model which does without them is what it was before there were any.
        later = {"layers": None, "trained_embeddings": False}
        content: dict[str, Any] = dump(self)
        return {name: value for name, value in content.items() if name not in later or value != later[name]}


class WordsEncoder(Weights):
    """A frozen table of word vectors: `path` is a text file as word2vec and GloVe write it.

    Attributes:
        path: See above.
        split_at: What parts the words of a text: white space, or all that is no letter, digit or underscore.
    """

    kind: Literal["words"]
    path: str
    split_at: SplitAt = "spaces"

    @model_serializer(mode="wrap")
    def _without_later_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As of a transformer.
        content: dict[str, Any] = dump(self)
        return {name: value for name, value in content.items() if (name, value) != ("split_at", "spaces")}


class CharacterSettings(Settings):
    """A trained convolution over the characters of a word: its `filters` see `kernel` characters each."""

    dimension: int = Field(ge=1)
    filters: int = Field(ge=1)
    kernel: int = Field(ge=1)


Encoder = StaticEncoder | WordsEncoder | TransformerEncoder


class Adapters(Settings):
    """LoRA (Hu et al. 2022): beside frozen layers, products of two trained matrices, added `alpha` / `rank` times.

    Attributes:
        rank: Of the products.
        alpha: See above.
        targets: Names of the linear layers that have one, such as q_proj.
        layers: In how many of the last layers of the network.
    """

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    targets: list[str] = Field(min_length=1)
    layers: int = Field(ge=1)


class PretrainedNetwork(Weights):
    """A pretrained network, frozen: at `path` is a folder as transformers writes it, or a GGUF file.

    Without `adapters` it is the network as it is, which can be measured and not trained.
    """

    kind: Literal["pretrained"]
    path: str = "."
    adapters: Adapters | None = None


class ByteNetwork(Settings):
    """A Llama over the bytes of a text, trained from scratch; it needs no tokenizer and no file."""

    kind: Literal["bytes"]
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)

    @model_validator(mode="after")
    def _heads_divide_units(self) -> Self:
        # Rotary positions turn pairs of units.
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden: {self.hidden} is no multiple of twice the heads, {2 * self.heads}")
        return self


class WordNetwork(Settings):
    """An LSTM over frozen word vectors, trained from scratch: `layers` layers of `hidden` units.

    Attributes:
        encoder: The vectors.
        vocabulary: Words that can be predicted, the first of the vectors' file; all others are one.
        hidden: See above.
        layers: See above.
    """

    kind: Literal["words"]
    encoder: WordsEncoder
    vocabulary: int = Field(ge=1)
    hidden: int = Field(ge=1)
    layers: int = Field(1, ge=1)


class SequenceToSequence(Settings):
    """How a language model is given a source and writes its target: stages/models/sequences.py.

    Attributes:
        max_source: Tokens of a source that are read; what remains of `max_length` is the target's.
        prompt: What stands between source and target.
    """

    max_source: int = Field(ge=1)
    prompt: str = Field(min_length=1)


class AnyModelSettings(Settings):
    """What the block of every kind of model has, and what the rest asks of a kind.

    Attributes:
        called: What a model of this kind is called in messages.
        classifies: Whether it reads and scores labels and tags.
        max_length: Tokens of a text that are read.
    """

    called: ClassVar[str]
    classifies: ClassVar[bool] = False
    max_length: int = Field(ge=1, le=4096)

    @property
    @abstractmethod
    def no_secret(self) -> tuple[str, str] | None:
        """Why no secret can be hidden in what it learns, and the way out; None if one can."""

    @property
    def untrained(self) -> str | None:
        """The setting without which nothing of it can be trained, if it is left out."""
        return None

    @property
    def reads(self) -> tuple[str, list[str]] | None:
        """What it reads or writes besides texts, and the columns of the data that hold it, the needed one first."""
        return None

    @property
    def trains_embeddings(self) -> bool:
        """Whether the vectors of its tokens are trained, so that an update has their gradient."""
        return False


class LanguageModelSettings(AnyModelSettings):
    """A causal language model, which reads `max_length` tokens of a text, the mark of its beginning among them.

    With `sequence_to_sequence` it learns and writes the data's targets, else it learns their texts.
    """

    called = "a language model"
    kind: Literal["language_model"]
    network: Annotated[ByteNetwork | PretrainedNetwork | WordNetwork, Field(discriminator="kind")]
    max_length: int = Field(ge=2, le=4096)
    sequence_to_sequence: SequenceToSequence | None = None

    @property
    def no_secret(self) -> tuple[str, str] | None:
        """See the base: targets are not texts, and words outside a vocabulary are all one."""
        if self.sequence_to_sequence is not None:
            return "a canary has no target to be written", "train another model"
        if isinstance(self.network, WordNetwork):
            problem = "a network of words takes all words outside its vocabulary for one"
            return problem, "train a language model of network.kind: bytes or pretrained"
        return None

    @property
    def untrained(self) -> str | None:
        """Adapters, since a pretrained network is frozen."""
        frozen = isinstance(self.network, PretrainedNetwork) and self.network.adapters is None
        return "network.adapters" if frozen else None

    @property
    def reads(self) -> tuple[str, list[str]] | None:
        """Targets, of a model that writes."""
        return None if self.sequence_to_sequence is None else ("writes targets", ["target"])

    @model_validator(mode="after")
    def _words_are_not_written(self) -> Self:
        if self.sequence_to_sequence is not None and isinstance(self.network, WordNetwork):
            raise ValueError("sequence_to_sequence is for network.kind: bytes or pretrained; this is words")
        return self

    @model_serializer(mode="wrap")
    def _without_later_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As of a transformer.
        content: dict[str, Any] = dump(self)
        if self.sequence_to_sequence is None:
            del content["sequence_to_sequence"]
        return content


class SpanSettings(AnyModelSettings):
    """A reader of questions, which finds the span of a context that answers one.

    Attributes:
        max_length: Tokens of question, context and marks; a longer context is cut.
        max_answer: Tokens of the longest answer that is looked for.
    """

    called = "a span model"
    kind: Literal["span"]
    encoder: TransformerEncoder
    dropout: float = Field(ge=0, lt=1)
    max_answer: int = Field(ge=1)

    @property
    def no_secret(self) -> tuple[str, str] | None:
        """Of questions there are no canaries."""
        return "a canary asks no question, which a span model reads", "train another model"

    @property
    def reads(self) -> tuple[str, list[str]] | None:
        """Questions, and their answers."""
        return "reads questions", ["question", "answers"]


class MaskedLanguageModelSettings(AnyModelSettings):
    """A masked language model, which reads `max_length` tokens of a text, the marks of both its ends among them.

    Of the encoder's file its head is read too. One that the file lacks is drawn anew and trained.
    """

    called = "a masked language model"
    kind: Literal["masked_language_model"]
    encoder: TransformerEncoder
    max_length: int = Field(ge=3, le=4096)

    @property
    def no_secret(self) -> tuple[str, str] | None:
        """Nothing here completes one."""
        return "a masked language model completes no text, and so no canary", "train a causal one"

    @property
    def untrained(self) -> str | None:
        """The layers of an encoder that is frozen."""
        frozen = self.encoder.trained_layers == 0 and not self.encoder.trained_embeddings
        return "encoder.trained_layers" if frozen else None

    @property
    def trains_embeddings(self) -> bool:
        """If its settings say so."""
        return self.encoder.trained_embeddings


class ModelSettings(AnyModelSettings):
    """A text classifier: encoder, head, and, for data with tags, one tag per word.

    `layers` is of a BiLSTM, `hidden` its units in each direction. Tags are scored independently, or by a chain (crf).
    """

    called = "a classifier"
    classifies = True
    encoder: Annotated[Encoder, Field(discriminator="kind")]
    characters: CharacterSettings | None = None
    head: Literal["mean", "bilstm"]
    hidden: int = Field(ge=0)
    layers: int = Field(1, ge=1)
    tagger: Literal["independent", "crf"] = "independent"
    dropout: float = Field(ge=0, lt=1)

    @property
    def no_secret(self) -> None:
        """It can hold one; whether its data can is asked of them."""

    @property
    def trains_embeddings(self) -> bool:
        """Of a transformer, if its settings say so."""
        return isinstance(self.encoder, TransformerEncoder) and self.encoder.trained_embeddings

    @model_validator(mode="after")
    def _head_has_units(self) -> Self:
        if self.head == "bilstm" and self.hidden == 0:
            raise ValueError("head: bilstm needs hidden of at least 1")
        if self.head != "bilstm" and self.layers > 1:
            raise ValueError(f"layers: {self.layers} is for head: bilstm; this is {self.head}")
        return self

    @model_validator(mode="after")
    def _characters_are_of_words(self) -> Self:
        if self.characters and self.encoder.kind != "words":
            raise ValueError(f"characters are for encoder.kind: words; this is {self.encoder.kind}")
        return self


# By the `kind` of a model's block, which a classifier's has not.
SCHEMAS: dict[str | None, type[AnyModelSettings]] = {
    None: ModelSettings,
    "language_model": LanguageModelSettings,
    "masked_language_model": MaskedLanguageModelSettings,
    "span": SpanSettings,
}


def parse_model(value: Any, key: str) -> AnyModelSettings:
    """Return the validated settings of a model."""
    kind = value.get("kind") if isinstance(value, dict) else None
    # A tuple, since what stands there may have no hash.
    if kind not in tuple(SCHEMAS):
        allowed = f"allowed: {', '.join(map(repr, filter(None, SCHEMAS)))}; a classifier has none"
        raise InputError(f"{PARAMETERS}: {key}.kind", f"{shown(kind)} is not allowed", allowed)
    return parse(SCHEMAS[kind], value, key)


def read_any_model(parameters: dict[str, Any], name: str) -> AnyModelSettings:
    """Return the validated settings of one model, a key under `models` of params.yaml."""
    key = f"models.{name}"
    return parse_model(block(parameters, key), key)


def read_fitted_model(parameters: dict[str, Any], name: str, trained: bool) -> AnyModelSettings:
    """Return the same of a model that is to be fitted; InputError if it is to be `trained` and nothing of it can be."""
    settings = read_any_model(parameters, name)
    if trained and settings.untrained:
        where = f"{PARAMETERS}: models.{name}.{settings.untrained}"
        problem = "left out or 0, so that nothing of the model is trained"
        raise InputError(where, problem, "give it, or train another model")
    return settings


def read_model(parameters: dict[str, Any], name: str) -> ModelSettings:
    """Return the same of a text classifier; InputError if it is another model."""
    settings = read_any_model(parameters, name)
    if not isinstance(settings, ModelSettings):
        where = f"{PARAMETERS}: models.{name}"
        raise InputError(where, f"is {settings.called}", f"name a classifier here; {FOR_OTHER_MODELS}")
    return settings
