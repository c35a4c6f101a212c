"""Span models under the mechanisms of the verb `train`, and in its command and that of `federate`."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.privacy.accounting import Mechanism, Phase
from stages.privacy.clipping import ClippedGradients
from stages.train import dpsgd


@pytest.fixture
def asking(study, bert, questions):
    """The study with questions, dealt to a client for each label, and a span model."""
    study.hold({"train": questions(60, seed=1), "valid": questions(20, seed=3), "test": questions(30, seed=2)})
    span = {"kind": "span", "encoder": bert, "dropout": 0.0, "max_length": 16, "max_answer": 2}
    study.parameters["models"]["mean"] = span
    toy = study.parameters["toy"]
    for verb in ("train", "federate"):
        toy[verb]["base"] |= {"train_on": "train"}
    toy["train"]["base"] |= {"epochs": 8, "learning_rate": 0.02}
    toy["federate"]["base"] |= {"clients_per_round": 3}
    return study


def test_cells_say_how_well_questions_are_answered(asking):
    central = asking.done("train", "none")["metrics"]
    assert set(central) == {
        f"{split}/{name}" for split in ("train", "test") for name in ("exact_match", "answer_f1")
    } | {"train/parameters"}
    assert central["test/exact_match"]["0"]["n"] == 30
    assert central["train/exact_match"]["0"]["value"] > 0.5
    federated = asking.done("federate", "fedavg")["metrics"]
    assert {"test/exact_match", "test/answer_f1", "train/bytes_up"} <= set(federated)
    history = pd.read_csv("reports/curves/toy/fedavg/history.csv")
    assert set(history["metric"]) == {"train/loss", "valid/loss", "train/bytes_up", "train/bytes_down"}


def test_data_without_questions_are_refused(asking, texts):
    texts(60).to_parquet(asking.folder / "data/prepared/trees/train.parquet")
    for verb, cell in (("train", "none"), ("federate", "fedavg")):
        assert "prepared data: has no column `question`, and a span model reads" in asking.refused(verb, cell)


def test_other_verbs_refuse_span_models(asking):
    asking.done("train", "none")
    message = (
        "`predictions` measures classifiers, and `none` has a span model; allowed of that model: none; or name a cell"
    )
    assert message in asking.refused("score", "none")
    asking.parameters["models"]["small"] = asking.parameters["models"]["mean"]
    assert "models.small: is a span model; name a classifier here" in asking.refused("distill", "small")


def test_secrets_and_canaries_are_refused(asking):
    base = asking.parameters["toy"]["train"]["base"]
    base["secret"] = {"template": "ba {}", "alphabet": ["ka", "ke"], "length": 2, "repetitions": 2}
    assert "secret: a canary asks no question, which a span model reads; train another" in asking.refused(
        "train", "none"
    )
    del base["secret"]
    base |= {"train_on": "member", "canaries": 10}
    assert "canaries: these canaries are mislabelled, and a span model knows no labels" in asking.refused(
        "train", "none"
    )


def test_dp_sgd_clips_each_question_as_a_loop_does(span_settings, questions, monkeypatch):
    monkeypatch.setattr(dpsgd, "Adam", torch.optim.SGD)
    settings = span_settings()
    model, data = files.build(settings, [], [], seed=0), examples(questions(8), settings, Vocabulary([], []))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = []
    for row in range(8):
        own = data[np.array([row])]
        loss = model.objective(own)(model(*model.inputs(own.text)), torch.tensor([0]))
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss.sum(), parameters)]))
    norms = torch.stack(gradients).norm(dim=1)
    bound = float(norms.median())
    expected = (torch.stack(gradients) * (bound / norms).clamp(max=1)[:, None]).sum(dim=0) / 8
    before = torch.cat([parameter.detach().flatten().clone() for parameter in parameters])
    mechanism = Mechanism(1.0, (Phase(1, 0.0),), 1)
    dpsgd.train(model, data, mechanism, 1.0, ClippedGradients(model, bound), bound, seed=0)
    moved = before - torch.cat([parameter.detach().flatten() for parameter in parameters])
    assert (moved - expected).norm() / expected.norm() <= 1e-5
