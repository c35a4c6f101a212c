"""Span models: how they read question and context, their loss, the spans they find, and how well those agree."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torchmetrics.functional.text import squad

from stages.common.errors import InputError
from stages.common.statistics import mean
from stages.models import files
from stages.models.evaluate import question_scores
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.models.reading import CUT_OFF
from stages.models.settings import SpanSettings
from stages.models.span import SpanScores, best_spans, losses

NOTHING = Vocabulary([], [])


def build(settings, seed=0):
    return files.build(settings, [], [], seed)


def table(*rows):
    """Return a prepared table of (context, question, answer) rows; an answer stands at its first place."""
    return pd.DataFrame(
        [
            {
                "example_id": f"q{number}",
                "text": context,
                "question": question,
                "answers": [answer],
                "answer_start": context.find(answer),
            }
            for number, (context, question, answer) in enumerate(rows)
        ]
    )


def test_question_and_context_are_one_pair_and_the_answer_is_some_of_its_tokens(span_settings):
    data = examples(table(("ba be bi", "ka ke", "be bi"), ("fu", "ka", "fu")), span_settings(), NOTHING)
    # [CLS] question [SEP] context [SEP]
    assert data.text.lengths.tolist() == [8, 5]
    assert data.text.part.tolist() == [[4, 7], [3, 4]]
    assert data.reading.spans.tolist() == [[5, 6], [3, 3]]
    assert data.reading.texts(data.reading.spans) == ["be bi", "fu"]
    assert data.reading.texts(torch.tensor([[4, 6], [3, 3]])) == ["ba be bi", "fu"]
    [last] = data[np.array([1])].reading.contexts
    assert last == "fu"


def test_an_answer_within_a_token_is_that_token(span_settings):
    data = examples(table(("ba be bi", "ka", "e b"), ("ba be bi", "ka", "a")), span_settings(), NOTHING)
    assert data.reading.texts(data.reading.spans) == ["be bi", "ba"]


def test_the_context_is_cut_and_not_the_question(span_settings):
    rows = [("ba be bi", "ka ke", "ba"), ("ba be bi", "ka ke", "be bi"), ("ba be bi", "ka", "be")]
    data = examples(table(*rows), span_settings(max_length=6), NOTHING)
    assert data.text.lengths.tolist() == [6, 6, 6]
    assert data.reading.spans.tolist() == [[4, 4], [CUT_OFF, CUT_OFF], [4, 4]]


@pytest.mark.parametrize(("length", "needed"), [(1, 6), (5, 6)])
def test_a_length_that_leaves_no_context_is_refused(span_settings, length, needed):
    with pytest.raises(InputError, match=rf"max_length: {length} leaves a question .*; give {needed} or more"):
        examples(table(("ba be bi", "ka ke", "ba")), span_settings(max_length=length), NOTHING)


def test_data_without_questions_are_refused(span_settings, texts):
    with pytest.raises(
        InputError, match=r"prepared data: has no column `question`.*; declare `question` and `answers`"
    ):
        examples(texts(3), span_settings(), NOTHING)


def test_an_answer_that_is_not_in_its_context_is_refused(span_settings):
    wrong = table(("ba be", "ka", "be")).assign(answer_start=1)
    with pytest.raises(InputError, match=r"example q0: answer \['be'\] is not at character 1 of its context"):
        examples(wrong, span_settings(), NOTHING)


def test_only_an_encoder_that_reads_pairs_is_allowed(encoder):
    with pytest.raises(ValueError, match="Input should be 'transformer'"):
        SpanSettings.model_validate(
            {"kind": "span", "encoder": encoder, "dropout": 0, "max_length": 8, "max_answer": 2}
        )


def test_scores_are_of_the_context_alone_and_padding_changes_nothing(span_settings, questions):
    settings = span_settings()
    model, data = build(settings).eval(), examples(questions(9), settings, NOTHING)
    with torch.no_grad():
        together = model(*model.inputs(data.text))
        for row in range(9):
            first, last = data.text.part[row].tolist()
            alone = model(*model.inputs(data.text[np.array([row])]))
            for scores, own in zip(together, alone, strict=True):
                assert scores[row].isfinite().nonzero().flatten().tolist() == list(range(first, last))
                torch.testing.assert_close(scores[row, first:last], own[0, first:last])


def test_the_two_texts_of_a_pair_are_told_apart(span_settings, questions):
    settings = span_settings()
    model, data = build(settings).eval(), examples(questions(9), settings, NOTHING)
    ids, lengths, context = model.inputs(data.text)
    encodings = model.encoder.model(
        input_ids=ids.long(),
        attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        token_type_ids=(torch.arange(ids.shape[1]) >= context[:, :1]).long(),
    )
    expected = model.ends(encodings.last_hidden_state)
    found = torch.stack(model(ids, lengths, context), dim=2)
    torch.testing.assert_close(found[found.isfinite()], expected[found.isfinite()])


def test_loss_is_the_mean_of_both_ends_and_nothing_of_what_was_cut_off():
    first = torch.tensor([[-torch.inf, 0.0, np.log(3.0)], [-torch.inf, 1.0, 2.0]], requires_grad=True)
    last = torch.tensor([[-torch.inf, 0.0, 0.0], [-torch.inf, 1.0, 2.0]], requires_grad=True)
    found = losses(SpanScores(first, last), torch.tensor([[1, 2], [CUT_OFF, CUT_OFF]]))
    assert found.tolist() == pytest.approx([(np.log(4) + np.log(2)) / 2, 0])
    found.sum().backward()
    assert first.grad.isfinite().all()
    assert (first.grad[1] == 0).all()


@pytest.mark.parametrize("longest", [1, 2, 3, 50])
def test_the_best_span_is_that_of_a_loop(longest):
    draws = np.random.default_rng(longest)
    first, last = (torch.from_numpy(draws.normal(size=(20, 9))) for _ in range(2))
    first[:, :2], last[:, :2] = -torch.inf, -torch.inf
    for row, span in enumerate(best_spans(SpanScores(first, last), longest).tolist()):
        spans = [(a, b) for a in range(9) for b in range(a, min(a + longest, 9))]
        assert tuple(span) == max(spans, key=lambda ends: float(first[row, ends[0]] + last[row, ends[1]]))


def test_agreement_is_that_of_squad():
    found = ["The cat!", "a black cat", "dog", "New York city"]
    right = [["cat"], ["cat", "white cat"], ["cat"], ["York", "New York"]]
    scores = question_scores(found, right)
    assert scores.tolist() == [[1, 1], [0, pytest.approx(2 / 3)], [0, 0], [0, pytest.approx(0.8)]]
    asked = [{"answers": {"text": texts, "answer_start": [0]}, "id": str(row)} for row, texts in enumerate(right)]
    whole = squad([{"prediction_text": text, "id": str(row)} for row, text in enumerate(found)], asked)
    assert scores.mean(axis=0).tolist() == pytest.approx([float(whole[key]) / 100 for key in ("exact_match", "f1")])


def test_a_mean_has_the_interval_of_resampled_texts():
    values = np.random.default_rng(0).random(200)
    found = mean(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (found.value, found.n) == (values.mean(), 200)
    assert [found.ci_low, found.ci_high] == pytest.approx([found.value - half, found.value + half], abs=0.01)


def test_a_model_is_trained_saved_and_measured(span_settings, questions, tmp_path):
    settings = span_settings()
    model, data = build(settings), examples(questions(60), settings, NOTHING)
    model.chunk = 7
    before = model.utility(data, NOTHING, "train", seed=0)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    objective = pickle.loads(pickle.dumps(model.objective(data)))
    for _ in range(60):
        optimiser.zero_grad()
        objective(model(*model.inputs(data.text)), torch.arange(60)).mean().backward()
        optimiser.step()
    after = model.utility(data, NOTHING, "train", seed=0)
    assert set(after) == {"train/exact_match", "train/answer_f1"}
    assert after["train/exact_match"].n == 60
    assert before["train/exact_match"].value < 0.6 < 0.9 < after["train/exact_match"].value
    assert after["train/answer_f1"].value >= after["train/exact_match"].value
    files.save(tmp_path, settings, [], [], model)
    assert not any(
        name.startswith("encoder.model.encoder.layer.0") for name in load_file(tmp_path / "model.safetensors")
    )
    assert json.loads((tmp_path / "config.json").read_text())["model"]["kind"] == "span"
    again, read, *_ = files.load(tmp_path)
    assert read == settings
    assert again.utility(data, NOTHING, "train", seed=0) == after


def test_answers_that_were_cut_off_are_missed(span_settings):
    settings = span_settings(max_length=6)
    data = examples(table(("ba be bi", "ka ke", "bi")), settings, NOTHING)
    assert build(settings).utility(data, NOTHING, "test", seed=0)["test/exact_match"].value == 0
