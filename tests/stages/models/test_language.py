import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from stages.common.errors import InputError
from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.models.settings import LanguageModelSettings

TEXTS = ["ba be bi", "ka", "fu fo ba ko ku da"]


def build(settings, seed=0):
    return files.build(settings, [], [], seed)


def losses(model, texts):
    with torch.no_grad():
        return model(*model.inputs(model.encode(texts)))


@pytest.mark.parametrize("kind", ["bytes", "pretrained"])
def test_losses_are_those_of_each_token_alone_and_padding_changes_nothing(kind, byte_settings, language_settings):
    model = build(byte_settings if kind == "bytes" else language_settings())
    together = losses(model, TEXTS)
    for row, text in enumerate(TEXTS):
        ids = model.encode([text]).ids[0].long()
        for place in range(1, len(ids)):
            with torch.no_grad():
                says = torch.log_softmax(model.network(input_ids=ids[None, :place]).logits[0, -1], dim=0)
            assert together[row, place - 1].item() == pytest.approx(-says[ids[place]].item(), abs=1e-5)
        assert (together[row, len(ids) - 1 :] == 0).all()


def test_adapters_change_nothing_before_training(language_settings, llama):
    model = build(language_settings())
    ids = model.encode(TEXTS).ids.long()
    plain = AutoModelForCausalLM.from_pretrained(llama["path"], attn_implementation="eager")
    with torch.no_grad():
        assert torch.equal(model.network(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_only_adapters_are_trained_and_saved_and_scores_come_back(language_settings, llama, tmp_path):
    model = build(language_settings(), seed=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = "network.model.layers.1.self_attn"
    adapters = {f"{layer}.{name}.{part}.weight" for name in ("q_proj", "v_proj") for part in ("down", "up")}
    assert set(files.trained_state(model)) == adapters
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model(*model.inputs(model.encode(TEXTS))).sum().backward()
        optimiser.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == adapters
    files.save(tmp_path, model.settings, [], [], model)
    assert set(load_file(tmp_path / "model.safetensors")) == adapters
    again, settings, _, _ = files.load(tmp_path)
    assert settings == model.settings
    assert torch.equal(losses(again, TEXTS), losses(model, TEXTS))
    assert not torch.equal(losses(again, TEXTS), losses(build(language_settings(), seed=3), TEXTS))


def test_a_network_over_bytes_is_drawn_from_its_seed_and_saved_whole(byte_settings, tmp_path):
    first, same, other = build(byte_settings, 1), build(byte_settings, 1), build(byte_settings, 2)
    assert torch.equal(losses(first, TEXTS), losses(same, TEXTS))
    assert not torch.equal(losses(first, TEXTS), losses(other, TEXTS))
    files.save(tmp_path, byte_settings, [], [], first)
    again, *_ = files.load(tmp_path)
    assert set(files.trained_state(again)) == set(first.state_dict())
    assert torch.equal(losses(again, TEXTS), losses(first, TEXTS))
    assert json.loads((tmp_path / "config.json").read_text())["model"] == byte_settings.model_dump()


def test_perplexity_is_of_all_tokens_and_its_interval_of_texts(byte_settings, texts):
    model, data = build(byte_settings), examples(texts(40), byte_settings, Vocabulary([], []))
    model.chunk = 7
    [(name, found)] = model.utility(data, Vocabulary([], []), "test", seed=0).items()
    assert name == "test/perplexity"
    by_token = losses(model, list(texts(40)["text"]))
    assert found.value == pytest.approx(np.exp(float(by_token.sum() / (data.text.lengths - 1).sum())), rel=1e-5)
    assert found.n == 40
    assert found.ci_low < found.value < found.ci_high


def test_without_adapters_a_network_is_as_it_came(language_settings, texts):
    settings = language_settings(adapters=None)
    model, adapted = build(settings), build(language_settings())
    assert not files.trained_state(model)
    assert torch.equal(losses(model, TEXTS), losses(adapted, TEXTS))
    data = examples(texts(9), settings, Vocabulary([], []))
    found, same = (each.utility(data, Vocabulary([], []), "test", seed=0) for each in (model, adapted))
    assert found == same


@pytest.mark.parametrize("change", [{}, {"adapters": None}])
def test_settings_with_and_without_adapters_survive_their_own_dump(change, language_settings):
    settings = language_settings(**change)
    assert LanguageModelSettings.model_validate(settings.model_dump()) == settings


def test_a_writer_without_adapters_reads_all_layers_at_once(writer_settings, llama, pairs):
    network = {key: value for key, value in llama.items() if key != "adapters"}
    plain = writer_settings("pretrained").model_dump() | {"network": network}
    settings = LanguageModelSettings.model_validate(plain)
    model, adapted = build(settings), build(writer_settings("pretrained"))
    text = examples(pairs(5), settings, Vocabulary([], [])).text
    assert len(model.inputs(text)) == 3
    with torch.no_grad():
        torch.testing.assert_close(model(*model.inputs(text)), adapted(*adapted.inputs(text)))


@pytest.mark.parametrize(
    ("adapters", "problem"),
    [
        ({"layers": 3}, "network.adapters.layers: 3; it has 2 layers"),
        ({"targets": ["q_proj", "query"]}, "network.adapters.targets: a layer has no `query`; it has: down_proj, gate"),
    ],
)
def test_adapters_that_a_network_has_no_place_for_are_refused(adapters, problem, llama, language_settings):
    with pytest.raises(InputError, match=problem):
        build(language_settings(adapters=llama["adapters"] | adapters))


def test_a_model_that_reads_more_than_its_positions_is_refused(language_settings):
    with pytest.raises(InputError, match="max_length: 33; allowed: at most 32, the network's positions"):
        build(language_settings(max_length=33))


def test_another_kind_of_network_is_refused(bert, language_settings):
    with pytest.raises(InputError, match="BertLMHeadModel is not supported; allowed: Llama and its kin"):
        build(language_settings(path=bert["path"], sha256=bert["sha256"]))


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ({"kind": "bytes", "layers": 1, "hidden": 12, "heads": 4}, "hidden: 12 is no multiple of twice the heads, 8"),
        ({"kind": "letters"}, "'bytes', 'pretrained', 'words'"),
    ],
)
def test_settings_that_make_no_network_are_refused(network, problem):
    with pytest.raises(ValueError, match=problem):
        LanguageModelSettings.model_validate({"kind": "language_model", "network": network, "max_length": 8})
