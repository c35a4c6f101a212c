import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.common.errors import InputError
from stages.models.classifier import TextClassifier
from stages.models.encoders import StaticTable, Transformer, encode, mask, tokenizer, weights_file
from stages.models.settings import StaticEncoder, TransformerEncoder


@pytest.fixture
def static(encoder):
    return lambda **changes: StaticEncoder(**(encoder | changes))


@pytest.fixture
def transformer(bert):
    return lambda **changes: TransformerEncoder(**(bert | changes))


@pytest.fixture
def bert_copy(bert, tmp_path):
    return Path(shutil.copytree(bert["path"], tmp_path / "copy"))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tokenize(static):
    return tokenizer(static(), 16)


def test_a_text_becomes_its_tokens_padded_with_zeros(tokenize):
    encoded = encode(tokenize, ["ba be bi", "bo"], special=False)
    assert encoded.ids.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert encoded.lengths.tolist() == [3, 1]


def test_only_the_first_token_of_a_word_begins_it(tokenize):
    encoded = encode(tokenize, [["ba-be-bi", "ba", "ba"], ["bo-bu"]], special=False)
    assert encoded.words.tolist() == [[0, -1, -1, 1, 2], [0, -1, -1, -1, -1]]


def test_the_tokenizers_own_marks_begin_no_word(transformer):
    encoded = encode(tokenizer(transformer(), 16), [["ba-be", "bi"]], special=True)
    assert encoded.ids.tolist() == [[2, 4, 5, 6, 3]]
    assert encoded.words.tolist() == [[-1, 0, -1, 1, -1]]


def test_a_word_without_a_token_begins_nowhere(tokenize):
    assert encode(tokenize, [["ba", "-", "be"]], special=False).words.tolist() == [[0, 2]]


@pytest.mark.parametrize("text", ["", " ", "-"])
def test_a_text_without_a_token_is_one_padding_token(tokenize, text):
    encoded = encode(tokenize, [text, "ba be"], special=False)
    assert encoded.ids.tolist() == [[0, 0], [4, 5]]
    assert encoded.lengths.tolist() == [1, 2]


def test_a_text_without_words_is_one_padding_token(tokenize):
    encoded = encode(tokenize, [["ba"], []], special=False)
    assert (encoded.ids.tolist(), encoded.lengths.tolist(), encoded.words.tolist()) == ([[4], [0]], [1, 1], [[0], [-1]])


@pytest.mark.parametrize(("kind", "ids"), [("static", [4, 5, 6]), ("transformer", [2, 4, 3])])
def test_a_long_text_is_cut_at_the_length_asked_for_marks_included(static, transformer, kind, ids):
    settings = static() if kind == "static" else transformer()
    assert encode(tokenizer(settings, 3), ["ba be bi bo"], special=kind == "transformer").ids.tolist() == [ids]


def test_the_mask_is_true_on_text_alone():
    assert mask(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True, True, True]]


def test_the_table_gives_each_token_its_own_row(static):
    table = StaticTable(static())
    vectors = table(torch.tensor([[4, 9]]), torch.tensor([2]))
    assert torch.equal(vectors[0], table.table[[4, 9]])


def test_only_the_last_layers_of_a_transformer_are_trained(transformer):
    trained = {name.split(".")[3] for name, p in Transformer(transformer()).named_parameters() if p.requires_grad}
    frozen = {name.split(".")[1] for name, p in Transformer(transformer()).named_parameters() if not p.requires_grad}
    assert trained == {"1"}
    assert frozen == {"embeddings", "encoder", "pooler"}


def test_weights_of_the_hash_given_are_accepted(static, encoder):
    assert weights_file(static(sha256=digest(Path(encoder["weights"])))) == Path(encoder["weights"])


@pytest.mark.parametrize("kind", ["static", "transformer"])
def test_weights_of_another_hash_are_refused_with_both(static, transformer, kind):
    settings = (static if kind == "static" else transformer)(sha256="0" * 64)
    with pytest.raises(InputError, match=r"safetensors: sha256 is [0-9a-f]{64}; params.yaml expects 0{64}$"):
        weights_file(settings)


def read_tokenizer(settings):
    return tokenizer(settings, 4)


@pytest.mark.parametrize(("name", "read"), [("weights", weights_file), ("tokenizer", read_tokenizer)])
def test_an_absent_file_of_a_static_encoder_is_refused(static, name, read):
    settings = static(**{name: "absent/file"})
    with pytest.raises(InputError, match=r"params.yaml: models: absent/file: no such file or folder"):
        read(settings)


@pytest.mark.parametrize(
    ("name", "read", "message"),
    [
        ("model.safetensors", Transformer, "model.safetensors: no such file; weights are read from safetensors only"),
        ("config.json", Transformer, "copy: holds no config.json"),
        ("tokenizer.json", read_tokenizer, "tokenizer.json: no tokenizer"),
    ],
)
def test_an_absent_file_of_a_transformer_is_refused(transformer, bert_copy, name, read, message):
    (bert_copy / name).unlink()
    settings = transformer(path=str(bert_copy))
    with pytest.raises(InputError, match=message):
        read(settings)


def test_a_file_that_is_no_tokenizer_is_refused(static, tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(InputError, match=r"t.json: no tokenizer \(.*\); give a tokenizers JSON file"):
        tokenizer(static(tokenizer=str(tmp_path / "t.json")), 4)


def test_a_file_that_is_no_safetensors_is_refused(static, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"w.safetensors: not safetensors \(.*\); give a safetensors file"):
        StaticTable(static(weights=str(path), sha256=digest(path)))


def test_a_static_encoder_of_two_tables_is_refused(static, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, path)
    with pytest.raises(InputError, match="holds 2 tensors; a static encoder is one table"):
        StaticTable(static(weights=str(path), sha256=digest(path)))


def test_more_trained_layers_than_there_are_is_refused(transformer):
    with pytest.raises(InputError, match=r"models: encoder.trained_layers: 3; it has 2 layers"):
        Transformer(transformer(trained_layers=3))


def test_a_transformer_of_another_build_is_refused(transformer, bert_copy):
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9, bos_token_id=0, eos_token_id=0)).save_pretrained(
        bert_copy
    )
    with pytest.raises(InputError, match="GPT2Model is not supported; allowed: BERT, its kin, DistilBERT"):
        Transformer(transformer(path=str(bert_copy), sha256=digest(bert_copy / "model.safetensors")))


def test_a_longer_text_than_a_transformer_has_positions_is_refused(model_settings, bert):
    with pytest.raises(InputError, match=r"models: max_length: 17; allowed: at most 16, the encoder's positions"):
        TextClassifier(model_settings(encoder=bert, max_length=17), labels=2)


def test_only_the_first_layers_of_a_transformer_may_be_kept(transformer):
    whole, first = Transformer(transformer(trained_layers=0)), Transformer(transformer(layers=1))
    assert {name.split(".")[3] for name, _ in first.named_parameters() if ".layer." in name} == {"0"}
    ids, lengths = torch.tensor([[2, 5, 6, 3]]), torch.tensor([4])
    seen = []
    whole.model.encoder.layer[0].register_forward_hook(lambda *found: seen.append(found[2]))
    whole(ids, lengths)
    torch.testing.assert_close(first(ids, lengths), seen[0], rtol=0, atol=0)
    with pytest.raises(InputError, match=r"models: encoder.layers: 3; it has 2 layers"):
        Transformer(transformer(layers=3))
    with pytest.raises(InputError, match=r"models: encoder.trained_layers: 2; it has 1 layers"):
        Transformer(transformer(layers=1, trained_layers=2))


def names(encoder):
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_the_embeddings_of_a_transformer_may_be_trained(transformer):
    trained = {
        name for name, p in Transformer(transformer(trained_embeddings=True)).named_parameters() if p.requires_grad
    }
    before = {name for name, p in Transformer(transformer()).named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained - before} == {"embeddings"}
    assert before < trained


def test_vectors_of_tokens_are_read_as_the_tokens(transformer):
    encoder = Transformer(transformer()).eval()
    ids, lengths = torch.tensor([[2, 5, 6, 3], [2, 8, 3, 0]]), torch.tensor([4, 3])
    torch.testing.assert_close(encoder.read(encoder.table[ids], lengths), encoder(ids, lengths), rtol=0, atol=1e-6)


def test_a_config_without_the_later_settings_is_what_it_was(transformer):
    assert not {"layers", "trained_embeddings"} & set(transformer().model_dump())
    later = transformer(layers=1, trained_embeddings=True).model_dump()
    assert (later["layers"], later["trained_embeddings"]) == (1, True)
    assert TransformerEncoder.model_validate(later) == transformer(layers=1, trained_embeddings=True)
