"""Language models that write targets: what they read, their loss, what they write, and how well that agrees."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import InputError
from stages.models import files
from stages.models.evaluate import rouge_scores
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.models.pretrained import BYTES, tokenizer
from stages.models.settings import LanguageModelSettings
from stages.models.text_model import TextModel

NOTHING = Vocabulary([], [])
PAIRS = pd.DataFrame(
    {
        "example_id": ["e0", "e1", "e2"],
        "text": ["ba be bi bo", "ka", "fu fo ba ko ku da"],
        "target": ["da de", "du", "ba be bi bo bu ka ke ki ko ku"],
    }
)


def read(settings, table=PAIRS):
    return examples(table, settings, NOTHING)


def said(settings, ids):
    return [tokenizer(settings).id_to_token(int(number)) for number in ids]


def test_source_prompt_and_target_are_read_as_one_text(writer_settings):
    settings = writer_settings("pretrained", max_length=12, max_source=3, prompt="lu")
    data = read(settings)
    # [CLS] marks a beginning, [SEP] an end; the third target is cut, and nothing marks an end that is not there.
    assert [said(settings, row[:length]) for row, length in zip(data.text.ids, data.text.lengths, strict=True)] == [
        ["[CLS]", "ba", "be", "bi", "lu", "da", "de", "[SEP]"],
        ["[CLS]", "ka", "lu", "du", "[SEP]"],
        ["[CLS]", "fu", "fo", "ba", "lu", "ba", "be", "bi", "bo", "bu", "ka", "ke"],
    ]
    assert data.text.part.tolist() == [[5, 8], [3, 5], [5, 12]]
    assert data[np.array([2, 1])].targets == [PAIRS["target"][2], "du"]


def test_of_bytes_a_target_ends_with_the_mark_of_a_beginning(writer_settings):
    data = read(writer_settings("bytes"))
    first, end = data.text.part[1].tolist()
    decode = tokenizer(writer_settings("bytes")).decode
    assert decode(data.text.ids[1, 1:first].tolist()) == "ka>"
    assert decode(data.text.ids[1, first : end - 1].tolist()) == " du"
    assert data.text.ids[1, [0, end - 1]].tolist() == [BYTES, BYTES]


@pytest.mark.parametrize("kind", ["bytes", "pretrained"])
def test_losses_are_those_of_the_target_alone_and_padding_changes_nothing(kind, writer_settings):
    settings = writer_settings(kind)
    model, data = changed(files.build(settings, [], [], seed=0)), read(settings)
    with torch.no_grad():
        together = model(*model.inputs(data.text))
        assert together.shape == (3, int((data.text.part[:, 1] - data.text.part[:, 0]).max()))
        for row, (first, end) in enumerate(data.text.part.tolist()):
            ids = data.text.ids[row, :end].long()
            says = torch.log_softmax(model.network(input_ids=ids[None]).logits[0], dim=1)
            expected = [-float(says[place - 1, ids[place]]) for place in range(first, end)]
            assert together[row, : end - first].tolist() == pytest.approx(expected, abs=1e-5)
            assert (together[row, end - first :] == 0).all()
        mean = model.objective(data)(together, torch.arange(3))
    counts = data.text.part[:, 1] - data.text.part[:, 0]
    torch.testing.assert_close(mean, together.sum(dim=1) / counts)


def test_what_no_training_changes_is_computed_once_and_changes_no_gradient(writer_settings):
    settings = writer_settings("pretrained")
    model, data = changed(files.build(settings, [], [], seed=0)), read(settings)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    objective, inputs, rows = model.objective(data), model.inputs(data.text), torch.tensor([2, 0])
    ids, lengths, part, states = (tensor[rows] for tensor in inputs)
    assert states.shape == (*ids.shape, 16)
    found = torch.autograd.grad(objective(model(ids, lengths, part, states), rows).sum(), parameters)
    expected = torch.autograd.grad(objective(model(ids, lengths, part), rows).sum(), parameters)
    torch.testing.assert_close(found, expected)
    assert len(model.network.model.layers) == 2
    assert not isinstance(model.network.model.norm, torch.nn.Identity)


def changed(model: TextModel) -> TextModel:
    """Return a model whose adapters are no longer zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("up.weight"):
                torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("kind", ["bytes", "pretrained"])
def test_what_is_written_is_the_likeliest_token_each_time(kind, writer_settings, monkeypatch):
    monkeypatch.setattr("stages.models.language.WRITTEN", 2)
    settings = writer_settings(kind)
    model, data = changed(files.build(settings, [], [], seed=0)), read(settings)
    tokens, end = tokenizer(settings), {"bytes": BYTES, "pretrained": 3}[kind]
    expected = []
    for row, (first, _) in enumerate(data.text.part.tolist()):
        ids = data.text.ids[row, :first].long().tolist()
        for _ in range(settings.max_length - settings.sequence_to_sequence.max_source - 2):
            with torch.no_grad():
                says = model.network(input_ids=torch.tensor([ids])).logits[0, -1]
            if len(ids) == first:
                says[end] = -torch.inf
            ids.append(int(says.argmax()))
            if ids[-1] == end:
                break
        expected.append(" ".join(tokens.decode([number for number in ids[first:] if number != end]).split()))
    assert model.write(data.text) == expected


@pytest.mark.parametrize("kind", ["bytes", "pretrained"])
def test_a_model_learns_to_write_and_is_measured_on_it(kind, writer_settings, pairs, tmp_path):
    settings = writer_settings(kind, adapters={"rank": 8, "alpha": 32.0, "layers": 2})
    model, data = files.build(settings, [], [], seed=0), read(settings, pairs(12))
    model.chunk = 5
    before = model.utility(data, NOTHING, "test", seed=0)
    assert set(before) == {f"test/{name}" for name in ("perplexity", "rouge1_f", "rouge2_f", "rougel_f")}
    assert model.utility(data, NOTHING, "train", seed=0) == {}
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    inputs, objective = model.inputs(data.text), model.objective(data)
    for _ in range(120):
        optimiser.zero_grad()
        objective(model(*inputs), torch.arange(12)).mean().backward()
        optimiser.step()
    after = model.utility(data, NOTHING, "test", seed=0)
    assert after["test/perplexity"].value < 0.5 * before["test/perplexity"].value
    assert after["test/rouge1_f"].value > before["test/rouge1_f"].value + 0.2
    assert after["test/rouge1_f"].n == 12
    files.save(tmp_path, settings, [], [], model)
    again, found, *_ = files.load(tmp_path)
    assert found == settings
    assert again.utility(data, NOTHING, "test", seed=0) == after


def test_no_target_is_empty_where_its_end_is_likeliest(writer_settings):
    settings = writer_settings("pretrained")
    model, data = files.build(settings, [], [], seed=0), read(settings)
    # [SEP] is the likeliest token everywhere.
    model.network.lm_head.register_forward_hook(
        lambda _layer, _states, logits: logits.index_fill(2, torch.tensor(3), 99)
    )
    lengths = [len(text.split()) for text in model.write(data.text)]
    assert lengths == [1, 1, 1]


def test_rouge_is_as_computed_by_hand():
    written = ["The cat sat, on the mat.", "a b", "", "police kill the gunman"]
    targets = ["the cat was on a mat", "c d", "a", "police killed the gunman"]
    found = rouge_scores(written, targets)
    # Words in common: the cat on mat (4 of 6 and 6); pairs: the cat (1 of 5 and 5); in order: the cat on mat.
    # Of the last: police the gunman (3 of 4 and 4); the gunman (1 of 3 and 3).
    assert found["rouge1_f"].tolist() == pytest.approx([4 / 6, 0, 0, 3 / 4])
    assert found["rouge2_f"].tolist() == pytest.approx([1 / 5, 0, 0, 1 / 3])
    assert found["rougel_f"].tolist() == pytest.approx([4 / 6, 0, 0, 3 / 4])


def test_data_without_targets_are_refused(writer_settings, texts):
    with pytest.raises(InputError, match=r"prepared data: has no column `target`.*; declare `target` under `columns`"):
        read(writer_settings("bytes"), texts(3))


def test_a_length_that_leaves_a_target_no_room_is_refused(writer_settings):
    # The mark of a beginning, two tokens, the prompt; a word and the mark of its end.
    assert read(writer_settings("pretrained", max_length=6, max_source=2)).text.part[0].tolist() == [4, 6]
    with pytest.raises(
        InputError, match=r"max_length: 5 leaves no room for a target behind 2 tokens .*; give 6 or more"
    ):
        read(writer_settings("pretrained", max_length=5, max_source=2))


def test_a_network_without_a_mark_of_an_end_is_refused(writer_settings, llama, tmp_path):
    import json
    import shutil

    shutil.copytree(llama["path"], tmp_path / "endless")
    config = json.loads((tmp_path / "endless/config.json").read_text()) | {"eos_token_id": None}
    (tmp_path / "endless/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: eos_token_id is None, and a target must end"):
        read(writer_settings("pretrained", path=str(tmp_path / "endless")))


def test_a_model_of_whole_texts_says_nothing_of_targets(byte_settings, writer_settings):
    assert "sequence_to_sequence" not in byte_settings.model_dump()
    settings = writer_settings("bytes")
    assert LanguageModelSettings.model_validate(settings.model_dump()) == settings
