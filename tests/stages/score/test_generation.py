"""What models write behind prompts: against one token at a time, alone and in any batch."""

import pytest
import torch

from stages.common.errors import InputError
from stages.common.streams import generator
from stages.models import encoders, files, pretrained
from stages.models.masked import MaskedLanguageModel
from stages.score.generation import continuations

PROMPTS = ["ba be bi", "ka", "fa fe", "ka ke ki ko"]


@pytest.fixture(params=["masked", "causal", "bytes"])
def model(request, masked_settings, language_settings, byte_settings):
    settings = {
        "masked": masked_settings(head=True, max_length=32),
        "causal": language_settings(adapters=None, max_length=32),
        "bytes": byte_settings.model_copy(update={"max_length": 64}),
    }[request.param]
    return files.build(settings, [], [], seed=0).eval()


def drawn(scores, draw, top_k):
    """Return the first of the likeliest tokens at which the sum of their probabilities reaches the draw."""
    values, tokens = torch.sort(scores.double(), descending=True)
    probabilities = torch.softmax(values[:top_k], dim=0)
    reached, place = 0.0, 0
    for place, probability in enumerate(probabilities):  # noqa: B007
        reached += float(probability)
        if reached >= draw:
            break
    return int(tokens[place])


@torch.no_grad()
def one_by_one(model, prompt, draws, top_k):
    """Return the tokens behind a prompt, each from the whole text before it."""
    if isinstance(model, MaskedLanguageModel):
        tokenize = encoders.tokenizer(model.settings.encoder, 32)
        *begun, end = tokenize.encode(prompt).ids
        ids = [*begun, *[model.mask_token] * len(draws), end]
        for place, draw in enumerate(draws, start=len(begun)):
            said = model.logits(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([[place]]))[0, 0]
            said[tokenize.token_to_id("[MASK]")] = -torch.inf
            ids[place] = drawn(said, draw, top_k)
        return tokenize.decode(ids[len(begun) : -1])
    tokenize = pretrained.tokenizer(model.settings)
    ids = begun = tokenize.encode(prompt).ids
    for draw in draws:
        following = drawn(model.network(input_ids=torch.tensor([ids])).logits[0, -1], draw, top_k)
        if following == pretrained.end_of_text(model.settings):
            break
        ids = [*ids, following]
    return tokenize.decode(ids[len(begun) :])


@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_texts_are_those_of_one_token_after_the_other(model, top_k):
    draws = generator(3, "continuations").random((len(PROMPTS), 6))
    expected = [one_by_one(model, *each, top_k).strip() for each in zip(PROMPTS, draws, strict=True)]
    assert continuations(model, PROMPTS, 6, top_k, seed=3) == expected
    model.chunk = 1
    assert continuations(model, PROMPTS, 6, top_k, seed=3) == expected


def test_seeds_differ_and_the_likeliest_alone_does_not(model):
    assert continuations(model, PROMPTS, 6, 1000, seed=0) != continuations(model, PROMPTS, 6, 1000, seed=1)
    assert continuations(model, PROMPTS, 6, 1, seed=0) == continuations(model, PROMPTS, 6, 1, seed=1)


def test_a_causal_model_stops_at_the_mark_of_an_end(language_settings, monkeypatch):
    model = files.build(language_settings(adapters=None, max_length=32), [], [], seed=0).eval()
    [text] = continuations(model, ["ba be"], 6, 1, seed=0)
    first = pretrained.tokenizer(model.settings).encode(text).ids[1]
    monkeypatch.setattr(pretrained, "end_of_text", lambda _: first)
    assert continuations(model, ["ba be"], 6, 1, seed=0) == [""]


def test_a_prompt_without_room_is_refused(model):
    with pytest.raises(
        InputError, match=r"max_length: \d+ is less than the \d+ tokens of a prompt and what is written"
    ):
        continuations(model, PROMPTS, 64, 1, seed=0)
