import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.common.errors import InputError
from stages.models import files, pretrained
from stages.models.encoders import check_sha256
from stages.models.pretrained import CHECKSUMS, pretrained_folder, tokenizer


def test_bytes_are_tokens_behind_a_mark(byte_settings):
    tokenize = tokenizer(byte_settings)
    encoded = tokenize.encode("a é!")
    assert encoded.ids[0] == 256
    assert len(encoded.ids) == 1 + len("a é!".encode())
    assert max(encoded.ids[1:]) < 256
    every = tokenize.encode("".join(map(chr, range(1, 20))))
    assert len(set(every.ids)) == 20
    assert len(tokenize.encode("x" * 100).ids) == 40


def test_other_weights_are_refused(language_settings):
    with pytest.raises(InputError, match=r"model\.safetensors: sha256 is .*; params\.yaml expects 0000"):
        pretrained_folder(language_settings(sha256="0" * 64).network)


def test_a_folder_without_weights_or_without_a_beginning_is_refused(llama, language_settings, tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors: no such file; give a GGUF file, or a folder"):
        pretrained_folder(language_settings(path=str(tmp_path)).network)
    folder = Path(shutil.copytree(llama["path"], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": None}))
    with pytest.raises(InputError, match="bos_token_id is None, and the first token has nothing before it"):
        tokenizer(language_settings(path=str(folder)))


def pretend(patch, llama, save=None):
    """Have transformers believe that a GGUF file is the Llama; `save` is called when its folder is nearly there.

    Returns what was loaded from such files.
    """
    loaded, plain = [], AutoModelForCausalLM.from_pretrained

    def network(folder, gguf_file=None, **options):
        if gguf_file is None:
            return plain(folder, **options)
        loaded.append((Path(folder) / gguf_file, options["dtype"]))
        return plain(llama["path"], **options)

    class Reader:
        bos_token_id = 2

        def save_pretrained(self, folder):
            shutil.copy(Path(llama["path"]) / "tokenizer.json", folder)
            if save:
                save(folder)

    patch.setattr(AutoModelForCausalLM, "from_pretrained", network)
    patch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: Reader())
    return loaded


@pytest.fixture
def packed(tmp_path, monkeypatch, language_settings):
    """The settings of a GGUF file, and the folder of the user's cache that it goes to."""
    path = tmp_path / "small.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pretrained._unpacked.cache_clear()
    return language_settings(path=str(path), sha256=check_sha256(path, None)), tmp_path / "cache/assay"


def test_packed_weights_are_unpacked_once(packed, llama, language_settings, monkeypatch):
    settings, cache = packed
    loaded = pretend(monkeypatch, llama)
    first = files.build(settings, [], [], seed=0).state_dict()
    pretrained._unpacked.cache_clear()
    again = files.build(settings, [], [], seed=0).state_dict()
    plain = files.build(language_settings(), [], [], seed=0).state_dict()
    assert all(torch.equal(first[name], again[name]) and torch.equal(first[name], plain[name]) for name in plain)
    assert loaded == [(Path(settings.network.path), torch.float32)]
    [folder] = cache.iterdir()
    assert folder.name.startswith(settings.network.sha256)


def damage(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")


@pytest.mark.parametrize(
    "change",
    [damage, lambda folder: (folder / "config.json").unlink(), lambda folder: (folder / CHECKSUMS).unlink()],
    ids=["changed", "removed", "without checksums"],
)
def test_a_folder_that_is_not_what_was_unpacked_is_refused_with_the_remedy(packed, llama, monkeypatch, change):
    settings, cache = packed
    loaded = pretend(monkeypatch, llama)
    folder = pretrained_folder(settings.network)
    change(folder)
    pretrained._unpacked.cache_clear()
    with pytest.raises(InputError, match="is not what was unpacked there; remove the folder; it is made again"):
        pretrained_folder(settings.network)
    assert len(loaded) == 1
    shutil.rmtree(folder)
    assert pretrained_folder(settings.network) == folder
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_of_two_that_unpack_at_once_the_first_is_kept(packed, llama, monkeypatch):
    # Two threads stand for two processes, which share no more than the folder: a forked one may inherit a held lock.
    settings, cache = packed
    early_saves, late_saves, early_is_done = (threading.Event() for _ in range(3))

    def save(folder):
        early = not early_saves.is_set()
        (folder / "by").write_text("early" if early else "late")
        (early_saves if early else late_saves).set()
        assert (late_saves if early else early_is_done).wait(120)

    loaded = pretend(monkeypatch, llama, save)
    with ThreadPoolExecutor() as pool:
        early = pool.submit(pretrained_folder, settings.network)
        assert early_saves.wait(120)
        late = pool.submit(pretrained_folder, settings.network)
        folder = early.result(120)
        early_is_done.set()
        assert late.result(120) == folder
    assert len(loaded) == 2
    assert list(cache.iterdir()) == [folder]
    assert (folder / "by").read_text() == "early"


def test_another_packed_file_is_refused(packed, llama, language_settings, monkeypatch):
    loaded = pretend(monkeypatch, llama)
    with pytest.raises(InputError, match=r"params\.yaml expects 0000"):
        pretrained_folder(language_settings(path=packed[0].network.path, sha256="0" * 64).network)
    assert not loaded


def test_what_is_not_installed_is_named(packed, monkeypatch):
    settings, cache = packed

    def missing(*_, **__):
        raise ImportError("no gguf")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(InputError, match=r"cannot be read \(no gguf\); pip install gguf accelerate"):
        pretrained_folder(settings.network)
    assert not cache.exists()
