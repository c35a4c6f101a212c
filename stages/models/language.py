"""The causal language model: a network that says what token follows, how it reads a text, and what it loses on it.

Pretrained networks stay frozen but for their adapters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.models.classifier import CHUNK, TextClassifier
from stages.models.encoders import EncodedText, encode, hide_progress, mask
from stages.models.pretrained import BYTES, pretrained_folder
from stages.models.pretrained import tokenizer as tokenizer
from stages.models.settings import Adapters, ByteNetwork, LanguageModelSettings, PretrainedNetwork

# Logits in one pass that keeps no gradient, a quarter of a gigabyte of them.
LOGITS = 2**26


class LanguageModel(nn.Module):
    """Say how surprising each token of a text is, given those before it.

    Args:
        settings: The model's block of params.yaml.

    Attributes:
        chunk: Texts at a time, so that their logits fit in memory.
    """

    def __init__(self, settings: LanguageModelSettings) -> None:
        super().__init__()
        network = settings.network
        self.settings = settings
        self.network = _byte_network(network, settings) if isinstance(network, ByteNetwork) else _adapted(network)
        if settings.max_length > (longest := int(self.network.config.max_position_embeddings)):
            limit = f"allowed: at most {longest}, the network's positions"
            raise InputError("params.yaml: models: max_length", str(settings.max_length), limit)
        self.chunk = min(CHUNK, max(1, LOGITS // (settings.max_length * int(self.network.config.vocab_size))))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode(self, texts: Sequence[str]) -> EncodedText:
        """Return texts as the model reads them."""
        return encode(tokenizer(self.settings), texts, special=True)

    def inputs(self, text: EncodedText) -> tuple[Tensor, ...]:
        """Return what `forward` takes, first dimension n."""
        return text.ids.to(self.device), text.lengths.to(self.device)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, longest - 1) losses in nats of the tokens after the first one, 0 past a text's end."""
        width = int(lengths.max())
        ids = ids[:, :width].long()
        # No token looks at those behind it, so padding needs no mask; it costs nothing but time.
        logits = self.network(input_ids=ids, use_cache=False).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return losses * mask(lengths, width)[:, 1:]


# Whatever a cell may fit.
TextModel = TextClassifier | LanguageModel


class Adapted(nn.Module):
    """A frozen linear layer and what is added to it: a product of two trained matrices, zero before training.

    Source: Hu et al. 2022, "LoRA", section 4.1.
    """

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.scale = alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the frozen layer says, adapted."""
        adapted: Tensor = self.frozen(inputs) + self.scale * self.up(self.down(inputs))
        return adapted


def _byte_network(network: ByteNetwork, settings: LanguageModelSettings) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=BYTES + 1,
        hidden_size=network.hidden,
        # In the proportion of Llama.
        intermediate_size=8 * network.hidden // 3,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        max_position_embeddings=settings.max_length,
        bos_token_id=BYTES,
        eos_token_id=None,
        # Attention as plain matrix products: per-example gradients need no fused kernel.
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def _adapted(settings: PretrainedNetwork) -> Any:
    from transformers import AutoModelForCausalLM

    hide_progress()
    network = AutoModelForCausalLM.from_pretrained(
        pretrained_folder(settings),
        dtype=torch.float32,
        attn_implementation="eager",
        use_safetensors=True,
        local_files_only=True,
    )
    network.requires_grad_(False)
    try:
        layers = list(network.get_submodule("model.layers").children())
    except AttributeError:
        problem = f"{type(network).__name__} is not supported"
        raise InputError("params.yaml: models: network", problem, "allowed: Llama and its kin") from None
    adapters = settings.adapters
    if adapters.layers > len(layers):
        where = "params.yaml: models: network.adapters.layers"
        raise InputError(where, str(adapters.layers), f"it has {len(layers)} layers")
    for layer in layers[-adapters.layers :]:
        _adapt(layer, adapters)
    return network


def _adapt(layer: nn.Module, adapters: Adapters) -> None:
    linear = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    known = {name.rpartition(".")[2] for name in linear}
    if unknown := [target for target in adapters.targets if target not in known]:
        where = "params.yaml: models: network.adapters.targets"
        raise InputError(where, f"a layer has no `{unknown[0]}`", f"it has: {', '.join(sorted(known))}")
    for name, module in linear.items():
        parent, _, last = name.rpartition(".")
        if last in adapters.targets:
            setattr(layer.get_submodule(parent), last, Adapted(module, adapters.rank, adapters.alpha))
