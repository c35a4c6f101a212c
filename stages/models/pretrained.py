"""What a language model starts from: the folder of a pretrained network, and the tokenizer of any.

A GGUF file's packed weights are unpacked once, into a folder of the user's cache that is named by the file's hash: no
output of a stage, for it can be made again at any time.
"""

import os
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from stages.common import artifacts
from stages.common.errors import InputError
from stages.models import vectors
from stages.models.encoders import check_sha256, hide_progress, locate, tokenizer_file, word_vectors
from stages.models.settings import ByteNetwork, LanguageModelSettings, PretrainedNetwork, WordNetwork

BEGINNING = "<|begin|>"
BYTES = 256
# What was unpacked, as sha256sum writes and checks it.
CHECKSUMS = "SHA256SUMS"


def tokenizer(settings: LanguageModelSettings) -> Tokenizer:
    """Return the model's tokenizer: it puts the mark of a beginning first and cuts at `max_length` tokens."""
    network = settings.network
    if isinstance(network, ByteNetwork):
        # Every byte is a token, and none is joined with another.
        loaded = Tokenizer(models.BPE({sign: number for number, sign in enumerate(_signs())}, []))
        loaded.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        loaded.decoder = decoders.ByteLevel()
        beginning, number = BEGINNING, BYTES
    elif isinstance(network, WordNetwork):
        loaded = vectors.tokenizer(word_vectors(network.encoder).words, network.encoder.split_at)
        # The row of zeros.
        beginning, number = BEGINNING, 0
    else:
        folder = pretrained_folder(network)
        loaded = tokenizer_file(folder / "tokenizer.json")
        number = artifacts.read_json(folder / "config.json").get("bos_token_id")
        found = None if number is None else loaded.id_to_token(number)
        if found is None:
            problem = f"bos_token_id is {number}, and the first token has nothing before it"
            raise InputError(str(folder / "config.json"), problem, "give a model that marks where a text begins")
        beginning = found
    loaded.post_processor = processors.TemplateProcessing(
        single=[beginning, "$A"], special_tokens=[(beginning, number)]
    )
    loaded.no_padding()
    loaded.enable_truncation(settings.max_length)
    return loaded


def end_of_text(settings: LanguageModelSettings) -> int:
    """Return the token that marks the end of a text; of bytes it is that of a beginning, of words behind the last."""
    network = settings.network
    if isinstance(network, ByteNetwork):
        return BYTES
    if isinstance(network, WordNetwork):
        return len(word_vectors(network.encoder).table)
    config = pretrained_folder(network) / "config.json"
    number = artifacts.read_json(config).get("eos_token_id")
    if not isinstance(number, int):
        problem = f"eos_token_id is {number}, and a target must end"
        raise InputError(str(config), problem, "give a model that marks where a text ends by one token")
    return number


def pretrained_folder(settings: PretrainedNetwork) -> Path:
    """Return the folder of a pretrained network as transformers reads it, its hash checked."""
    path = locate(settings, settings.path)
    if path.suffix == ".gguf":
        return _unpacked(path, check_sha256(path, settings.sha256))
    weights = path / "model.safetensors"
    for needed in (weights, path / "config.json"):
        if not needed.is_file():
            raise InputError(str(needed), "no such file", "give a GGUF file, or a folder that transformers writes")
    if settings.sha256 is not None:
        check_sha256(weights, settings.sha256)
    return path


@cache
def _unpacked(path: Path, sha256: str) -> Path:
    """Return a folder with a GGUF file's weights in float32; takes up to a minute where it is not there yet."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"
    # How weights are unpacked is up to transformers.
    folder = root / f"{sha256}-transformers-{version('transformers')}"
    if not folder.is_dir():
        _unpack(path, folder)
    sums = folder / CHECKSUMS
    if not sums.is_file() or sums.read_text(encoding="utf-8") != _checksums(folder):
        raise InputError(str(folder), "is not what was unpacked there", "remove the folder; it is made again")
    return folder


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a GGUF file into `folder`, unless another process was faster: what that one made may be in use."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hide_progress()
    file = {"gguf_file": path.name, "local_files_only": True}
    try:
        reader = AutoTokenizer.from_pretrained(path.parent, **file)
        network = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **file)
    except ImportError as error:
        raise InputError(str(path), f"cannot be read ({error})", "pip install gguf accelerate") from None
    # The weights are no longer packed, and transformers would not save what it takes for quantised.
    network.hf_quantizer, network.is_quantized = None, False
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.config.bos_token_id = reader.bos_token_id
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".incomplete", dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        network.save_pretrained(made)
        reader.save_pretrained(made)
        (made / CHECKSUMS).write_text(_checksums(made), encoding="utf-8")
        try:
            # Fails where there is a folder that is not empty, in one step with the question whether there is one.
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _checksums(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    return "".join(f"{check_sha256(path, None)}  {path.name}\n" for path in files)


def _signs() -> list[str]:
    # How a tokenizer writes bytes, which are in its own order.
    return [*sorted(pre_tokenizers.ByteLevel.alphabet()), BEGINNING]
