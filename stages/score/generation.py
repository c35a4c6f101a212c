"""How language models go on with a text: causal ones token by token, masked ones by filling masks from left to right.

A token is drawn from the `top_k` likeliest, by their probabilities. Each step of each text has a draw of its own, so
that what is written does not depend on which texts are read together.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from tokenizers import Tokenizer
from torch import Tensor

from stages.common.errors import InputError
from stages.common.settings import PARAMETERS
from stages.common.streams import generator
from stages.models import pretrained
from stages.models.language import LanguageModel
from stages.models.masked import MaskedLanguageModel
from stages.score.tokens import AnyLanguageModel, whole_tokenizer


@torch.no_grad()
def continuations(model: AnyLanguageModel, prompts: Sequence[str], tokens: int, top_k: int, seed: int) -> list[str]:
    """Return what a model writes behind each prompt, without the prompt.

    A causal model stops at its mark of an end. A masked one has none: behind a prompt stand as many masks as it is to
    write, which it fills from left to right, each once, while it sees those that are left (after Wang and Cho 2019,
    "BERT has a Mouth, and It Must Speak").

    Args:
        model: In eval mode.
        prompts: n texts.
        tokens: The most that are written.
        top_k: From how many tokens one is drawn.
        seed: Of the draws.

    Raises:
        InputError: The model reads fewer tokens than a prompt and what is written have.
    """
    tokenize = whole_tokenizer(model)
    begun = [each.ids for each in tokenize.encode_batch(list(prompts))]
    longest = max(map(len, begun)) + tokens
    if longest > model.settings.max_length:
        problem = f"{model.settings.max_length} is less than the {longest} tokens of a prompt and what is written"
        raise InputError(f"{PARAMETERS}: models: max_length", problem, f"train a model of {longest} or more")
    draws = torch.from_numpy(generator(seed, "continuations").random((len(prompts), tokens)))
    written = torch.empty((len(prompts), tokens), dtype=torch.int64)
    # Those of one length together: none is padded.
    for _, alike in groupby(sorted(range(len(begun)), key=lambda row: len(begun[row])), lambda row: len(begun[row])):
        for rows in torch.tensor(list(alike)).split(model.chunk):
            ids = torch.tensor([begun[row] for row in rows.tolist()], device=model.device)
            drawn = draws[rows].to(model.device)
            if isinstance(model, MaskedLanguageModel):
                written[rows] = _filled(model, tokenize, ids, drawn, top_k).cpu()
            else:
                written[rows] = _continued(model, ids, drawn, top_k).cpu()
    end = None if isinstance(model, MaskedLanguageModel) else pretrained.end_of_text(model.settings)
    return [tokenize.decode(own[: own.index(end)] if end in own else own).strip() for own in written.tolist()]


def _continued(model: LanguageModel, ids: Tensor, draws: Tensor, top_k: int) -> Tensor:
    """Return (n, steps) tokens behind those of texts (n, length)."""
    read, written = model.network(input_ids=ids, use_cache=True), []
    for step, drawn in enumerate(draws.unbind(dim=1)):
        written.append(_drawn(read.logits[:, -1], drawn, top_k))
        if step + 1 < draws.shape[1]:
            given = written[-1][:, None]
            read = model.network(input_ids=given, past_key_values=read.past_key_values, use_cache=True)
    return torch.stack(written, dim=1)


def _filled(model: MaskedLanguageModel, tokenize: Tokenizer, ids: Tensor, draws: Tensor, top_k: int) -> Tensor:
    """Return (n, steps) tokens in place of masks before the last mark of texts (n, length)."""
    marks = [number for number, token in tokenize.get_added_tokens_decoder().items() if token.special]
    first = ids.shape[1] - 1
    ids = torch.cat([ids[:, :first], torch.full_like(draws, model.mask_token, dtype=ids.dtype), ids[:, first:]], dim=1)
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    for place, drawn in enumerate(draws.unbind(dim=1), start=first):
        scores = model.logits(ids, lengths, torch.full_like(lengths, place)[:, None])[:, 0]
        # No word is written so.
        scores[:, marks] = -torch.inf
        ids[:, place] = _drawn(scores, drawn, top_k)
    return ids[:, first:-1]


def _drawn(scores: Tensor, draws: Tensor, top_k: int) -> Tensor:
    """Return (n,) tokens by scores (n, tokens) and draws (n,) from 0 to 1."""
    likeliest = scores.double().topk(min(top_k, scores.shape[1]), dim=1)
    reached = likeliest.values.softmax(dim=1).cumsum(dim=1)
    # Rounding may leave the last sum below 1.
    place = torch.searchsorted(reached, draws[:, None].contiguous()).clamp(max=reached.shape[1] - 1)
    return likeliest.indices.gather(1, place)[:, 0]
