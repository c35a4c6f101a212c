"""The causal language model: a network that says what token follows, how it reads a text, and what it loses on it.

Pretrained networks stay frozen but for their adapters, if they have any.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.common.measurements import Measurement
from stages.common.statistics import mean, perplexity
from stages.models import sequences
from stages.models.encoders import CHUNK, EncodedText, encode, hide_progress, mask
from stages.models.evaluate import rouge_scores, scored
from stages.models.examples import Examples, Vocabulary, unlabelled
from stages.models.pretrained import BYTES, end_of_text, pretrained_folder, tokenizer
from stages.models.settings import Adapters, ByteNetwork, LanguageModelSettings, PretrainedNetwork, WordNetwork
from stages.models.text_model import Objective, TextModel

# Logits in one pass that keeps no gradient, a quarter of a gigabyte of them.
LOGITS = 2**26
# Targets that are written at once.
WRITTEN = 64


class LanguageModel(TextModel):
    """Say how surprising each token of a text is, given those before it.

    Args:
        settings: The model's block of params.yaml; its network is one over bytes or pretrained.
    """

    settings: LanguageModelSettings

    def __init__(self, settings: LanguageModelSettings) -> None:
        super().__init__(settings)
        network = settings.network
        assert not isinstance(network, WordNetwork)  # stages/models/next_word.py
        self.network = _byte_network(network, settings) if isinstance(network, ByteNetwork) else _pretrained(network)
        if settings.max_length > (longest := int(self.network.config.max_position_embeddings)):
            limit = f"allowed: at most {longest}, the network's positions"
            raise InputError("params.yaml: models: max_length", str(settings.max_length), limit)
        # The layers below the first that is trained: what they say of a text stays the same. Of Llama's kin some tell a
        # layer by its number, and cannot be run in part.
        self._below = 0
        if isinstance(network, PretrainedNetwork) and network.adapters and self.network.config.model_type == "llama":
            self._below = len(self.network.model.layers) - network.adapters.layers
        # So that their logits fit in memory.
        self.chunk = min(CHUNK, max(1, LOGITS // (settings.max_length * int(self.network.config.vocab_size))))

    @staticmethod
    def read(table: pd.DataFrame, settings: LanguageModelSettings, known: Vocabulary) -> Examples:
        """Encode texts, or with `sequence_to_sequence` pairs; InputError if the table has no targets to be written."""
        del known
        if settings.sequence_to_sequence is None:
            return unlabelled(table, whole(list(table["text"]), settings))
        text, targets = sequences.read(table, settings)
        return unlabelled(table, text, targets=targets)

    def encode(self, texts: Sequence[str]) -> EncodedText:
        """Return texts as the model reads them."""
        return whole(texts, self.settings)

    def inputs(self, text: EncodedText) -> tuple[Tensor, ...]:
        """Return token ids and lengths; with targets also their places and, if there are any, the states below them."""
        if text.part is None:
            return super().inputs(text)
        ids, lengths, part = *super().inputs(text), text.part.to(self.device)
        if not self._below:
            return ids, lengths, part
        states = torch.empty((*ids.shape, int(self.network.config.hidden_size)), device=self.device)
        for rows in torch.arange(len(ids), device=self.device).split(self.chunk):
            with torch.no_grad(), self._layers(0, self._below, last=False) as network:
                states[rows] = network(input_ids=ids[rows].long(), use_cache=False).last_hidden_state
        return ids, lengths, part, states

    def forward(self, ids: Tensor, lengths: Tensor, *target: Tensor) -> Tensor:
        """Return losses in nats, 0 past a text's end.

        Of a text they are (n, longest - 1), of the tokens after the first one; of a pair, of which `target` is the
        rest of what `inputs` returned, (n, longest target), of the target's.
        """
        width = int(lengths.max())
        if target:
            return self._target_losses(ids[:, :width].long(), target[0], *(states[:, :width] for states in target[1:]))
        ids = ids[:, :width].long()
        # No token looks at those behind it, so padding needs no mask; it costs nothing but time.
        logits = self.network(input_ids=ids, use_cache=False).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return losses * mask(lengths, width)[:, 1:]

    def _target_losses(self, ids: Tensor, part: Tensor, states: Tensor | None = None) -> Tensor:
        if states is None:
            states = self.network.model(input_ids=ids, use_cache=False).last_hidden_state
        else:
            with self._layers(self._below, None, last=True) as network:
                states = network(inputs_embeds=states, use_cache=False).last_hidden_state
        counts = part[:, 1] - part[:, 0]
        places = part[:, :1] + torch.arange(int(counts.max()), device=ids.device)
        within = places < part[:, 1:]
        # What the token before says of the next. Of the others, most of a text, no logits are needed.
        places = places.where(within, 1)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        logits = self.network.lm_head(states[rows, places - 1])
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), ids[rows, places], reduction="none")
        return losses * within

    @contextmanager
    def _layers(self, first: int, end: int | None, last: bool) -> Iterator[nn.Module]:
        """Lend the network with some of its layers, and the norm behind the last one only if that is among them."""
        network = self.network.model
        layers, norm = network.layers, network.norm
        network.layers = nn.ModuleList(list(layers)[first:end])
        network.norm = norm if last else nn.Identity()
        try:
            yield network
        finally:
            network.layers, network.norm = layers, norm

    def objective(self, examples: Examples) -> Objective:
        """Return the mean loss of each text's own tokens, or of its target's."""
        return mean_of_own(examples.text, self.device)

    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return the perplexity per token, which for a network over bytes is one per byte.

        Of targets it is that of their tokens, with ROUGE F of what is written, as against them; on training
        examples nothing is measured: to read them anew is most of what training costs.
        """
        del known
        if self.settings.sequence_to_sequence is not None and split == "train":
            return {}
        losses = np.empty(len(examples))
        for rows, by_token in scored(self, examples):
            losses[rows.numpy()] = by_token.double().sum(dim=1).cpu().numpy()
        measured = {f"{split}/perplexity": perplexity(losses, predicted(examples.text).numpy(), seed)}
        if self.settings.sequence_to_sequence is not None:
            rouge = rouge_scores(self.write(examples.text), examples.targets)
            measured |= {f"{split}/{name}": mean(values, seed) for name, values in rouge.items()}
        return measured

    def write(self, text: EncodedText) -> list[str]:
        """Return what the model writes as targets: always the likeliest token, until the mark of an end.

        The first is no such mark: no target is empty, and where any word may come first the mark is often likeliest.
        """
        from transformers import GenerationConfig

        settings = self.settings
        assert text.part is not None
        begun = [ids[:begin].tolist() for ids, begin in zip(text.ids, text.part[:, 0], strict=True)]
        end = end_of_text(settings)
        limits = {"min_new_tokens": 1, "max_new_tokens": sequences.room(settings)}
        greedy = GenerationConfig(do_sample=False, num_beams=1, eos_token_id=end, pad_token_id=end, **limits)
        training = self.training
        self.eval()
        found: list[str] = [""] * len(begun)
        # Beginnings of like length together, and few are padded.
        for rows in torch.argsort(text.part[:, 0], stable=True).split(WRITTEN):
            ids, kept = (each.to(self.device) for each in sequences.padded_left([begun[row] for row in rows]))
            made = self.network.generate(ids, attention_mask=kept, generation_config=greedy)
            for row, target in zip(rows.tolist(), sequences.words(made[:, ids.shape[1] :], settings), strict=True):
                found[row] = target
        self.train(training)
        return found


def whole(texts: Sequence[str], settings: LanguageModelSettings) -> EncodedText:
    """Encode texts behind the mark of a beginning."""
    return encode(tokenizer(settings), texts, special=True)


def mean_of_own(text: EncodedText, device: torch.device) -> Objective:
    """Return the mean of the losses of each text's own tokens, or of its target's, as an objective."""
    # By the example's own length, as a classifier's tags.
    counts = predicted(text).clamp(min=1).to(device)
    # No lambda: processes that train the clients of a federation are sent it.
    return partial(_mean_losses, counts)


def predicted(text: EncodedText) -> Tensor:
    """Return (n,) how many tokens are predicted: those of a target, or all but the mark of the beginning."""
    return text.lengths - 1 if text.part is None else text.part[:, 1] - text.part[:, 0]


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


def _pretrained(settings: PretrainedNetwork) -> Any:
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
    if (adapters := settings.adapters) is None:
        return network
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
