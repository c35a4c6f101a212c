"""Pretrained encoders: find their files, check their hash, tokenise, and turn tokens into vectors."""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.common.packages import package_path
from stages.common.settings import PARAMETERS
from stages.models import vectors
from stages.models.settings import Encoder, StaticEncoder, TransformerEncoder, Weights, WordsEncoder

IGNORED_TAG = -100
# Texts at a time where no gradient is kept.
CHUNK = 128


@dataclass(frozen=True)
class EncodedText:
    """Token ids of n texts, padded with 0 to the longest.

    Attributes:
        ids: (n, length) token ids.
        lengths: (n,) tokens of each text, at least 1.
        words: (n, length) index of the word that a token begins, -1 on all other tokens.
        part: (n, 2) first token of a part, and the one behind its last: of the context of a question, or of a
            target; None where there are neither.
    """

    ids: Tensor
    lengths: Tensor
    words: Tensor
    part: Tensor | None = None

    def __getitem__(self, rows: Any) -> "EncodedText":
        part = None if self.part is None else self.part[rows]
        return EncodedText(self.ids[rows], self.lengths[rows], self.words[rows], part)


def locate(settings: Weights, path: str) -> Path:
    """Return the local path of a model's file or folder, fetched first if it is on the hub."""
    if settings.source == "package":
        return package_path(str(settings.package), path)
    if settings.source == "hub":
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(settings.repository), revision=settings.revision)) / path
    if not Path(path).exists():
        raise InputError(
            f"params.yaml: models: {path}", "no such file or folder", "give a path from the project's root"
        )
    return Path(path)


def weights_file(settings: Encoder) -> Path:
    """Return the file of an encoder's weights, its hash checked; InputError on a mismatch."""
    if isinstance(settings, TransformerEncoder):
        path = locate(settings, settings.path) / "model.safetensors"
    else:
        path = locate(settings, settings.weights if isinstance(settings, StaticEncoder) else settings.path)
    if not path.is_file():
        safe = "weights are read from safetensors only"
        raise InputError(str(path), "no such file", vectors.REMEDY if isinstance(settings, WordsEncoder) else safe)
    if settings.sha256 is not None:
        check_sha256(path, settings.sha256)
    return path


def check_sha256(path: Path, expected: str | None) -> str:
    """Return a file's sha256; InputError if another one is expected."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected not in (None, found):
        raise InputError(str(path), f"sha256 is {found}", f"params.yaml expects {expected}")
    return found


@cache
def word_vectors(settings: WordsEncoder) -> vectors.WordVectors:
    """Return the words and vectors of an encoder, which a process reads once."""
    return vectors.read(weights_file(settings))


def tokenizer(settings: Encoder, max_length: int) -> Tokenizer:
    """Return the encoder's tokenizer, cutting at `max_length` tokens and padding nothing."""
    if isinstance(settings, WordsEncoder):
        loaded = vectors.tokenizer(word_vectors(settings).words, settings.split_at)
    elif isinstance(settings, StaticEncoder):
        loaded = tokenizer_file(locate(settings, settings.tokenizer))
    else:
        loaded = tokenizer_file(locate(settings, settings.path) / "tokenizer.json")
    loaded.no_padding()
    loaded.enable_truncation(max_length)
    return loaded


def tokenizer_file(path: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizers JSON file; InputError if it is none."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers has no narrower one
        raise InputError(str(path), f"no tokenizer ({error})", "give a tokenizers JSON file") from None


def encode(tokenize: Tokenizer, words: Sequence[Sequence[str]] | Sequence[str], special: bool) -> EncodedText:
    """Encode texts, or texts already split into words.

    Args:
        tokenize: See `tokenizer`.
        words: n texts, or n lists of words; `words` of the result counts the given words then.
        special: Whether to add the tokenizer's own marks at both ends.
    """
    split = bool(words) and not isinstance(words[0], str)
    encodings = tokenize.encode_batch(list(words), is_pretokenized=split, add_special_tokens=special)
    ids, lengths = padded_ids([encoding.ids for encoding in encodings])
    starts = np.full(ids.shape, -1, dtype=np.int16)
    if split:
        for row, encoding in enumerate(encodings):
            starts[row, : len(encoding.ids)] = _word_starts(encoding.word_ids)
    return EncodedText(torch.from_numpy(ids), torch.from_numpy(lengths), torch.from_numpy(starts))


def padded_ids(texts: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return (n, longest) token ids of n texts, padded with 0, and (n,) lengths of at least 1."""
    lengths = np.array([max(1, len(text)) for text in texts], dtype=np.int64)
    ids = np.zeros((len(texts), int(lengths.max(initial=1))), dtype=np.int32)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return ids, lengths


def _word_starts(word_ids: list[int | None]) -> NDArray[np.int16]:
    numbers = np.array([-1 if word is None else word for word in word_ids], dtype=np.int16)
    first = np.ones(len(numbers), dtype=bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return np.where(first, numbers, np.int16(-1))


def mask(lengths: Tensor, width: int) -> Tensor:
    """Return (n, width) booleans, true on the tokens that are text."""
    return torch.arange(width, device=lengths.device)[None] < lengths[:, None]


def _only_tensor(settings: StaticEncoder) -> Tensor:
    path = weights_file(settings)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(str(path), f"not safetensors ({error})", "give a safetensors file") from None
    if len(tensors) != 1:
        raise InputError(settings.weights, f"holds {len(tensors)} tensors", "a static encoder is one table")
    tensor: Tensor = next(iter(tensors.values()))
    return tensor


class StaticTable(nn.Module):
    """Token ids -> frozen vectors (n, length, dimension), in float32."""

    table: Tensor

    def __init__(self, settings: StaticEncoder | WordsEncoder) -> None:
        super().__init__()
        table = word_vectors(settings).table if isinstance(settings, WordsEncoder) else _only_tensor(settings)
        # Not persistent: the table is frozen and found again by its hash, so models on disk stay small.
        self.register_buffer("table", table.float(), persistent=False)
        self.dimension = self.table.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Return the vectors of tokens."""
        return nn.functional.embedding(ids, self.table)

    def read(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors: no token sees another."""
        del lengths
        return vectors

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.read(self.embed(ids), lengths)


def hide_progress() -> None:
    """Have transformers draw no progress bars where nobody watches."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def load_transformer(settings: TransformerEncoder, of: Any) -> tuple[Any, set[str]]:
    """Return a network as one of transformers' classes `of`, in float32, and which of its tensors its file lacks."""
    from transformers.utils import logging

    hide_progress()
    folder = weights_file(settings).parent
    if not (folder / "config.json").is_file():
        raise InputError(str(folder), "holds no config.json", "give the folder that transformers writes")
    verbosity = logging.get_verbosity()
    # What is missing is returned.
    logging.set_verbosity_error()
    try:
        network, loaded = of.from_pretrained(
            folder,
            dtype=torch.float32,
            # As plain matrix products: per-example gradients need no fused kernel.
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    return network, set(loaded["missing_keys"])


def check_complete(missing: Iterable[str]) -> None:
    """Raise InputError if a file lacks tensors, which would be drawn at random."""
    if absent := sorted(missing):
        problem = f"its file has no {absent[0]}" + (f", and {len(absent) - 1} tensors more" if absent[1:] else "")
        raise InputError("params.yaml: models: encoder", problem, "give the weights of a whole transformer")


def _layers(model: nn.Module) -> nn.ModuleList:
    for path in ("encoder.layer", "transformer.layer"):
        with suppress(AttributeError):
            found = model.get_submodule(path)
            assert isinstance(found, nn.ModuleList)
            return found
    raise InputError(
        "params.yaml: models: encoder", f"{type(model).__name__} is not supported", "allowed: BERT, its kin, DistilBERT"
    )


class Transformer(nn.Module):
    """Token ids -> last hidden states (n, length, dimension).

    All is frozen but the last layers and, if the settings say so, the embeddings.

    Args:
        settings: Where it is, and what of it is trained.
        model: What `load_transformer` returned, or the part of it below a head; loaded here if None.
    """

    def __init__(self, settings: TransformerEncoder, model: Any = None) -> None:
        super().__init__()
        from transformers import AutoModel

        if model is None:
            model, missing = load_transformer(settings, AutoModel)
            # Of the marks' states, which nothing here reads.
            check_complete(name for name in missing if not name.startswith("pooler."))
        self.model = model
        self.dimension = int(self.model.config.hidden_size)
        self.model.requires_grad_(False)
        layers = _layers(self.model)
        self.longest = int(self.model.config.max_position_embeddings)
        _at_most(len(layers), "layers", settings.layers or 0)
        del layers[settings.layers or len(layers) :]
        _at_most(len(layers), "trained_layers", settings.trained_layers)
        for layer in layers[len(layers) - settings.trained_layers :]:
            layer.requires_grad_(True)
        if settings.trained_embeddings:
            self.model.embeddings.requires_grad_(True)

    @property
    def table(self) -> nn.Parameter:
        """The (tokens, dimension) vectors of the tokens, before those of positions are added."""
        vectors: nn.Parameter = self.model.get_input_embeddings().weight
        return vectors

    @property
    def places(self) -> nn.Embedding:
        """The vectors of places in a text."""
        vectors: nn.Embedding = self.model.embeddings.position_embeddings
        return vectors

    def embed(self, ids: Tensor) -> Tensor:
        """Return the vectors of tokens, before those of positions are added."""
        vectors: Tensor = self.model.get_input_embeddings()(ids.long())
        return vectors

    def forward(self, ids: Tensor, lengths: Tensor, second: Tensor | None = None) -> Tensor:
        """Return the states of texts; of pairs, `second` (n,) is where the second text begins."""
        kinds = {}
        # Not every one of BERT's kin tells the two texts of a pair apart.
        if second is not None and getattr(self.model.config, "type_vocab_size", 1) > 1:
            kinds["token_type_ids"] = (torch.arange(ids.shape[1], device=ids.device) >= second[:, None]).long()
        states: Tensor = self.model(
            input_ids=ids.long(), attention_mask=mask(lengths, ids.shape[1]).long(), **kinds
        ).last_hidden_state
        return states

    def read(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return what `forward` does, of vectors (n, length, dimension) that need not be in the table."""
        states: Tensor = self.model(
            inputs_embeds=vectors, attention_mask=mask(lengths, vectors.shape[1]).long()
        ).last_hidden_state
        return states


def _at_most(layers: int, setting: str, asked: int) -> None:
    if asked > layers:
        raise InputError(f"params.yaml: models: encoder.{setting}", str(asked), f"it has {layers} layers")


def mean_states(encoder: StaticTable | Transformer, text: EncodedText, device: torch.device) -> Tensor:
    """Return (n, dimension) means over the tokens of each text, without a gradient."""
    means = torch.empty((len(text.lengths), encoder.dimension), device=device)
    # Texts of like length together: the cost of a chunk is that of its longest.
    for rows in torch.argsort(text.lengths, stable=True).split(CHUNK):
        lengths = text.lengths[rows]
        ids = text.ids[rows, : int(lengths.max())].to(device)
        with torch.no_grad():
            means[rows.to(device)] = mean_state(encoder(ids, lengths), lengths.to(device))
    return means


def mean_state(states: Tensor, lengths: Tensor) -> Tensor:
    """Return (n, dimension) means of states (n, length, dimension) over the tokens that are text."""
    kept = mask(lengths, states.shape[1])[..., None]
    return (states * kept).sum(dim=1) / lengths[:, None]


def embed(settings: Encoder, max_length: int, texts: Sequence[str], key: str) -> NDArray[np.float32]:
    """Return (n, dimension) vectors of texts: the means of a pretrained encoder's states over their tokens.

    On the CPU, so that what is made of them does not depend on whether there is a GPU.

    Raises:
        InputError: The encoder reads fewer than `max_length` tokens.
    """
    encoder = build_encoder(settings, max_length, key).eval()
    text = encode(tokenizer(settings, max_length), texts, special=isinstance(encoder, Transformer))
    return mean_states(encoder, text, torch.device("cpu")).numpy()


def build_encoder(settings: Encoder, max_length: int, key: str) -> StaticTable | Transformer:
    """Return an encoder of up to `max_length` tokens, a setting at `key`; InputError if it reads fewer."""
    if not isinstance(settings, TransformerEncoder):
        return StaticTable(settings)
    return of_positions(Transformer(settings), max_length, key)


def of_positions(encoder: Transformer, max_length: int, key: str) -> Transformer:
    """Return an encoder that reads up to `max_length` tokens, a setting at `key`; InputError if it reads fewer."""
    if max_length > encoder.longest:
        limit = f"allowed: at most {encoder.longest}, the encoder's positions"
        raise InputError(f"{PARAMETERS}: {key}", str(max_length), limit)
    return encoder
