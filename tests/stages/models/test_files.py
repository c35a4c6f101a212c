import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.common.errors import InputError
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples
from stages.models.settings import ModelSettings


@pytest.fixture(params=["mean", "bilstm", "bert", "tagger"])
def saved(request, model_settings, texts, tmp_path):
    """A classifier that was saved, its folder, and texts to score."""
    kind, table = request.param, texts(12, tags=True)
    head = {"encoder": request.getfixturevalue("bert")} if kind == "bert" else {"head": kind}
    head = request.getfixturevalue("tagger") if kind == "tagger" else head
    settings, known = model_settings(**head), vocabulary(table)
    model = files.build(settings, known.labels, known.tags, seed=3).eval()
    if model.chain is not None:
        torch.nn.init.normal_(model.chain.transitions)
    files.save(tmp_path / "model", settings, known.labels, known.tags, model)
    return model, tmp_path / "model", examples(table, settings, known).text


def test_a_model_scores_after_loading_as_before(saved):
    model, folder, text = saved
    loaded, _, _, _ = files.load(folder)
    exactly = {"rtol": 0, "atol": 0}
    with torch.no_grad():
        before, after = model(*model.inputs(text)), loaded(*loaded.inputs(text))
    torch.testing.assert_close(before.labels, after.labels, **exactly)
    own = torch.arange(before.tags.shape[1])[None] < text.lengths[:, None]
    torch.testing.assert_close(before.tags[own], after.tags[own], **exactly)
    torch.testing.assert_close(before.chain, after.chain, **exactly)


def test_the_file_holds_what_is_trained_and_nothing_frozen(saved):
    model, folder, _ = saved
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    stored = load_file(folder / "model.safetensors")
    assert set(stored) == set(trained)
    assert all(torch.equal(stored[name], trained[name]) for name in trained)


def test_a_model_is_made_from_its_seed_and_no_global_generator_is_changed(model_settings, monkeypatch):
    def touched(seed):
        raise AssertionError("the generators of the GPUs were set")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    before = torch.get_rng_state()
    one, other, again = (trained(files.build(model_settings(), ["a", "b"], [], seed)) for seed in (1, 2, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def trained(model):
    return torch.cat([tensor.flatten() for tensor in files.trained_state(model).values()])


def test_a_loaded_model_predicts_without_dropout(saved):
    assert not files.load(saved[1])[0].training


def test_the_config_says_how_to_build_the_model_again(saved, texts):
    folder = saved[1]
    config = json.loads((folder / "config.json").read_text())
    known = vocabulary(texts(12, tags=True))
    assert (config["format"], config["labels"], config["tags"]) == (1, known.labels, known.tags)
    assert ModelSettings.model_validate(config["model"]) == files.load(folder)[1]


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    model, folder, _ = saved
    _, settings, labels, tags = files.load(folder)
    files.save(tmp_path / "again", settings, labels, tags, model)
    for name in ("model.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.fixture
def folder(model_settings, tmp_path):
    model = files.build(model_settings(), ["a", "b"], [], seed=0)
    files.save(tmp_path, model_settings(), ["a", "b"], [], model)
    return tmp_path


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config.json: no such file; run `dvc repro`"):
        files.load(tmp_path)


def test_another_format_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 2}))
    with pytest.raises(InputError, match="format 2; this version reads format 1"):
        files.load(folder)


def test_tensors_of_another_model_are_refused(folder):
    save_file({"labels.weight": torch.zeros(2, 6)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"tensors do not fit config.json; run the stage that writes it again"):
        files.load(folder)


def test_a_seed_gives_the_same_weights_and_another_seed_others(model_settings):
    first, again, other = (files.build(model_settings(), ["a", "b"], [], seed) for seed in (5, 5, 6))
    assert torch.equal(first.labels.weight, again.labels.weight)
    assert not torch.equal(first.labels.weight, other.labels.weight)


def test_building_draws_nothing_from_the_global_generator(model_settings):
    before = torch.random.get_rng_state()
    files.build(model_settings(), ["a", "b"], [], seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
