"""Masked language models: what is hidden of a text, what is lost on it, what is trained, and bad files."""

from pathlib import Path
from shutil import copy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.common.errors import InputError
from stages.fitting import ordinary
from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.privacy.clipping import ClippedGradients
from tests.stages.conftest import SPECIAL, WORDS, sha256

NOTHING = Vocabulary([], [])
TEXTS = ["ba be bi bo bu da de di do du", "ka", "fa fe fi"]


def build(settings, seed=0):
    return files.build(settings, [], [], seed)


def table(texts):
    return pd.DataFrame({"example_id": [f"t{row}" for row in range(len(texts))], "text": texts})


def held_to(peer, model):
    """Compare what is said of some tokens with what a model of transformers says of them."""
    text = model.encode(TEXTS)
    places = torch.tensor([[3, 1], [1, 1], [2, 3]])
    with torch.no_grad():
        mask = torch.arange(text.ids.shape[1]) < text.lengths[:, None]
        expected = peer(input_ids=text.ids.long(), attention_mask=mask.long()).logits
        found = model.logits(text.ids, text.lengths, places)
    torch.testing.assert_close(found, expected[torch.arange(3)[:, None], places], atol=1e-5, rtol=1e-5)


def hidden(model, texts, monkeypatch):
    """Return what the network sees of texts, and the places that it is asked for."""
    seen = []
    asked = model.logits
    monkeypatch.setattr(model, "logits", lambda *given: seen.append(given) or asked(*given))
    text = model.encode(texts)
    found = model(*model.inputs(text))
    [(ids, _, places)] = seen
    return text.ids.long(), ids, places, found


def test_an_untrained_model_of_a_file_without_a_head_has_one_that_the_seed_draws(masked_settings):
    first, same, other = (build(masked_settings(), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert differing == {"head.predictions.transform.dense.weight"}


def test_what_is_trained_is_the_last_layer_and_a_head_that_the_file_lacks(masked_settings):
    def trained(**settings):
        names = files.trained_state(build(masked_settings(**settings)))
        return {".".join(name.split(".")[: 5 if name.startswith("encoder") else 3]) for name in names}

    layer = "encoder.model.encoder.layer.1"
    assert trained() == {layer, "head.predictions.transform", "head.predictions.decoder"}
    assert trained(head=True) == {layer}
    assert trained(head=True, trained_layers=0) == set()


def test_a_head_in_the_file_is_that_of_transformers(masked_settings):
    from transformers import BertForMaskedLM

    settings = masked_settings(head=True)
    model, peer = build(settings).eval(), BertForMaskedLM.from_pretrained(settings.encoder.path).eval()
    held_to(peer, model)


def test_while_it_is_trained_tokens_are_hidden_as_berts(masked_settings, monkeypatch):
    model = build(masked_settings(max_length=32)).train()
    torch.manual_seed(0)
    ids, shown, places, found = hidden(model, [" ".join(WORDS[:20]), "ka"] * 400, monkeypatch)
    # 15% of 20 tokens, and at least one.
    assert found.predicted.sum(dim=1).tolist() == [3, 1] * 400
    at = torch.zeros_like(ids).scatter_add(1, places, found.predicted.long())
    assert int(at.max()) == 1
    lengths = torch.tensor([22, 3] * 400)[:, None]
    columns = torch.arange(ids.shape[1])
    assert not at[(columns == 0) | (columns >= lengths - 1)].any()
    assert torch.equal(shown[at == 0], ids[at == 0])
    seen, truth = shown[at == 1], ids[at == 1]
    # Of 1,600 draws a share is within 4 standard deviations.
    assert float((seen == model.mask_token).float().mean()) == pytest.approx(0.8, abs=0.04)
    chance = 1 / (len(SPECIAL) + len(WORDS) + 1)
    assert float((seen == truth).float().mean()) == pytest.approx(0.1 + 0.1 * chance, abs=0.03)
    # Every place is as likely as any other.
    counts = at[0::2, 1:21].sum(dim=0).float()
    assert float(((counts - 60) ** 2 / (60 * 0.85)).sum()) < 43.8  # the 99.9th percentile of chi-squared of 19


def test_where_nothing_is_drawn_each_seventh_token_is_hidden_alone_and_in_any_batch(masked_settings, monkeypatch):
    model = build(masked_settings(max_length=32)).eval()
    texts = [" ".join(WORDS[:18]), "ka", "fa fe fi"]
    ids, shown, places, found = hidden(model, texts, monkeypatch)
    for row, words in enumerate((18, 1, 3)):
        own = places[row][found.predicted[row]].tolist()
        first = int(ids[row].sum()) % min(7, words) + 1
        assert own == list(range(first, words + 1, 7))
        assert shown[row, own].tolist() == [model.mask_token] * len(own)
    for row, text in enumerate(texts):
        alone = model(*model.inputs(model.encode([text])))
        torch.testing.assert_close(alone.losses[0].sum(), found.losses[row].sum(), atol=1e-5, rtol=1e-5)


def test_the_losses_are_of_the_hidden_tokens_and_so_is_the_perplexity(masked_settings):
    model = build(masked_settings(head=True)).eval()
    data = examples(table(TEXTS), model.settings, NOTHING)
    losses = []
    for text in TEXTS:
        ids = model.encode([text]).ids.long()
        own = ids.shape[1] - 2
        places = range(int(ids.sum()) % min(7, own) + 1, own + 1, 7)
        seen = ids.clone()
        seen[0, list(places)] = model.mask_token
        said = model.logits(seen, torch.tensor([own + 2]), torch.tensor([list(places)])).detach()
        losses.append([-float(torch.log_softmax(said[0, k], dim=0)[ids[0, place]]) for k, place in enumerate(places)])
    measured = model.utility(data, NOTHING, "test", seed=0)["test/masked_perplexity"]
    assert measured.value == pytest.approx(np.exp(np.mean(np.concatenate(losses))), rel=1e-4)
    found = model.objective(data)(model(*model.inputs(data.text)), torch.arange(3))
    assert found.tolist() == pytest.approx([np.mean(each) for each in losses], rel=1e-4)


def test_a_text_without_words_loses_nothing(masked_settings):
    model = build(masked_settings())
    data = examples(table(["", "ba be"]), model.settings, NOTHING)
    for training in (True, False):
        found = model.train(training)(*model.inputs(data.text))
        assert not found.losses[0].any()
        assert bool(found.losses[1].any())
        assert bool(model.objective(data)(found, torch.arange(2)).isfinite().all())


def test_training_lowers_the_perplexity_and_repeats_to_the_bit_and_what_is_saved_is_loaded(masked_settings, tmp_path):
    def trained(seed):
        model = build(masked_settings(), seed)
        inputs, objective = model.inputs(data.text), model.objective(data)
        ordinary.fit(model, inputs, objective, batch_size=8, epochs=6, learning_rate=0.01, seed=seed)
        return model

    data = examples(table(["ba be bi bo bu da de", "ka ke ki ko ku la le"] * 20), masked_settings(), NOTHING)
    before = build(masked_settings()).utility(data, NOTHING, "test", 0)["test/masked_perplexity"].value
    model, again, other = trained(0), trained(0), trained(1)
    assert model.utility(data, NOTHING, "test", 0)["test/masked_perplexity"].value < before / 2
    state = files.trained_state(model)
    assert all(torch.equal(value, files.trained_state(again)[name]) for name, value in state.items())
    assert not all(torch.equal(value, files.trained_state(other)[name]) for name, value in state.items())
    files.save(tmp_path, model.settings, [], [], model)
    loaded, settings, *_ = files.load(tmp_path)
    assert settings == model.settings
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_file_that_lacks_a_layer_is_refused(masked_settings, tmp_path):
    usual = masked_settings()
    tensors = load_file(f"{usual.encoder.path}/model.safetensors")
    lacking = {name: value for name, value in tensors.items() if "layer.1.output.dense" not in name}
    for name in ("config.json", "tokenizer.json"):
        copy(Path(usual.encoder.path) / name, tmp_path)
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    broken = masked_settings(path=str(tmp_path), sha256=sha256(tmp_path / "model.safetensors"))
    with pytest.raises(InputError, match=r"its file has no bert.encoder.layer.1.output.dense.bias, and 1 tensors more"):
        build(broken)


def test_a_tokenizer_without_a_mask_is_refused(bert, masked_settings):
    with pytest.raises(InputError, match=r"its tokenizer has no token \[MASK\] or <mask>; give a model that was"):
        build(masked_settings(**bert))


def test_more_tokens_than_positions_are_refused(masked_settings):
    with pytest.raises(InputError, match="max_length: 33; allowed: at most 32"):
        build(masked_settings(max_length=33))


@pytest.mark.parametrize("name", ["distilbert", "roberta"])
def test_the_heads_of_berts_kin_are_those_of_transformers(name, masked_settings, tmp_path):
    import transformers

    usual = masked_settings()
    sizes = {
        "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 32},
        "roberta": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 40,
            "pad_token_id": 0,
        },
    }[name]
    prefix = {"distilbert": "DistilBert", "roberta": "Roberta"}[name]
    vocabulary = len(SPECIAL) + len(WORDS) + 1
    config = getattr(transformers, f"{prefix}Config")(vocab_size=vocabulary, **sizes)
    peer = getattr(transformers, f"{prefix}ForMaskedLM")(config).eval()
    peer.save_pretrained(tmp_path)
    copy(Path(usual.encoder.path) / "tokenizer.json", tmp_path)
    model = build(masked_settings(path=str(tmp_path), sha256=sha256(tmp_path / "model.safetensors"))).eval()
    held_to(peer, model)


@pytest.mark.parametrize("trained_embeddings", [False, True])
def test_the_gradients_of_examples_are_clipped_as_in_a_loop(masked_settings, trained_embeddings):
    # Dropout is off and nothing is drawn, so that every pass hides the same tokens.
    model = build(masked_settings(trained_embeddings=trained_embeddings)).eval()
    data = examples(table([*TEXTS, "lu le"]), model.settings, NOTHING)
    inputs, objective = model.inputs(data.text), model.objective(data)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms, expected = [], 0.0
    for row in range(len(data)):
        [loss] = objective(model(*(each[[row]] for each in inputs)), torch.tensor([row]))
        gradient = torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)])
        norms.append(gradient.norm())
        expected = expected + gradient * min(1.0, 0.5 / float(norms[-1]))
    recorder = ClippedGradients(model, 0.5)
    with recorder.recording(len(data)):
        losses = objective(model(*inputs), torch.arange(len(data)))
    torch.testing.assert_close(recorder.backward(losses), torch.stack(norms), rtol=1e-4, atol=1e-6)
    found = torch.cat([parameter.grad.flatten() for parameter in parameters])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
