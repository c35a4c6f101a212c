"""The causal language model: a network that says what token follows, how it reads a text, and what it loses on it.

Pretrained networks stay frozen but for their adapters.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.models.encoders import CHUNK, EncodedText, encode, hide_progress, mask
from stages.models.evaluate import perplexity, scored
from stages.models.examples import Examples, Vocabulary
from stages.models.pretrained import BYTES, pretrained_folder, tokenizer
from stages.models.settings import Adapters, ByteNetwork, LanguageModelSettings, PretrainedNetwork
from stages.models.text_model import Objective, TextModel

# Logits in one pass that keeps no gradient, a quarter of a gigabyte of them.
LOGITS = 2**26


class LanguageModel(TextModel):
    """Say how surprising each token of a text is, given those before it.

    Args:
        settings: The model's block of params.yaml.
    """

    def __init__(self, settings: LanguageModelSettings) -> None:
        super().__init__()
        network = settings.network
        self.settings = settings
        self.network = _byte_network(network, settings) if isinstance(network, ByteNetwork) else _adapted(network)
        if settings.max_length > (longest := int(self.network.config.max_position_embeddings)):
            limit = f"allowed: at most {longest}, the network's positions"
            raise InputError("params.yaml: models: max_length", str(settings.max_length), limit)
        # So that their logits fit in memory.
        self.chunk = min(CHUNK, max(1, LOGITS // (settings.max_length * int(self.network.config.vocab_size))))

    def encode(self, texts: Sequence[str]) -> EncodedText:
        """Return texts as the model reads them."""
        return encode(tokenizer(self.settings), texts, special=True)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return (n, longest - 1) losses in nats of the tokens after the first one, 0 past a text's end."""
        width = int(lengths.max())
        ids = ids[:, :width].long()
        # No token looks at those behind it, so padding needs no mask; it costs nothing but time.
        logits = self.network(input_ids=ids, use_cache=False).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return losses * mask(lengths, width)[:, 1:]

    def objective(self, examples: Examples) -> Objective:
        """Return the mean loss of each text's own tokens."""
        # By the example's own length, as a classifier's tags; the mark of the beginning is not predicted.
        counts = (examples.text.lengths - 1).clamp(min=1).to(self.device)
        # No lambda: processes that train the clients of a federation are sent it.
        return partial(_mean_losses, counts)

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return the perplexity per token, which for a network over bytes is one per byte."""
        del known
        losses = np.empty(len(examples))
        for rows, by_token in scored(self, examples):
            losses[rows.numpy()] = by_token.double().sum(dim=1).cpu().numpy()
        # The mark of the beginning is not predicted.
        return {f"{split}/perplexity": perplexity(losses, examples.text.lengths.numpy() - 1, seed)}


def _mean_losses(counts: Tensor, by_token: Tensor, rows: Tensor) -> Tensor:
    return by_token.sum(dim=1) / counts[rows]


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
