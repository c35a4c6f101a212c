"""Language models under the mechanisms of the verb `train`."""

import numpy as np
import pytest
import torch

from stages.fitting import ordinary
from stages.fitting.stopping import EarlyStopping
from stages.models import files
from stages.models.examples import Vocabulary
from stages.models.kinds import examples
from stages.privacy.accounting import Mechanism, Phase
from stages.privacy.clipping import ClippedGradients
from stages.train import dpsgd


@pytest.fixture(params=["bytes", "pretrained", "words"])
def made(request, byte_settings, language_settings, word_settings, texts):
    """Return a model, its adapters no longer zero, and eight texts."""
    settings = {"bytes": byte_settings, "pretrained": language_settings(), "words": word_settings()}[request.param]
    model = files.build(settings, [], [], seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("up.weight"):
                torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return model, examples(texts(8), settings, Vocabulary([], []))


def one_at_a_time(model, data):
    """Return (n, parameters) gradients of the mean loss of each text's own tokens, read alone."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for row in range(len(data)):
        text = data.text[np.array([row])]
        losses = model(text.ids, text.lengths)
        gradients = torch.autograd.grad(losses.sum() / (text.lengths[0] - 1), parameters)
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(found)


@pytest.mark.parametrize("pieces", [8, 3])
def test_dp_sgd_clips_each_text_as_a_loop_does(made, pieces, monkeypatch):
    monkeypatch.setattr(dpsgd, "Adam", torch.optim.SGD)
    model, data = made
    model.chunk = pieces
    gradients = one_at_a_time(model, data)
    norms = gradients.norm(dim=1)
    bound = float(norms.median())
    expected = (gradients * (bound / norms).clamp(max=1)[:, None]).sum(dim=0) / 8
    before = flat(model)
    mechanism = Mechanism(1.0, (Phase(1, 0.0),), 1)
    dpsgd.train(model, data, mechanism, 1.0, ClippedGradients(model, bound), bound, seed=0)
    assert (before - flat(model) - expected).norm() / expected.norm() <= 1e-5


def flat(model):
    return torch.cat([tensor.flatten().clone() for tensor in files.trained_state(model).values()])


def test_training_lowers_the_loss_and_stops_where_it_rises(made):
    model, data = made
    stop = EarlyStopping(model, data, after=3)
    history = ordinary.fit(model, model.inputs(data.text), model.objective(data), 4, 30, 0.02, 0, stop)
    assert history[-1] < history[0]
    assert min(stop.losses) < stop.losses[0]
    stop.restore()
    with torch.no_grad():
        kept = model.objective(data)(model(*model.inputs(data.text)), torch.arange(8)).mean()
    assert float(kept) == pytest.approx(min(stop.losses), abs=1e-5)


def test_a_cell_says_how_well_it_models_clean_text(talkative):
    metrics = talkative.done("train", "none")["metrics"]
    assert {"train/perplexity", "test/perplexity", "train/parameters"} == set(metrics)
    # Of 256 bytes the texts have 17.
    assert 1 < metrics["test/perplexity"]["0"]["value"] < 12
    assert metrics["train/perplexity"]["0"]["n"] == 400
    assert metrics["test/perplexity"]["0"]["n"] == 90


def test_a_private_cell_states_its_guarantee(talkative):
    talkative.parameters["toy"]["train"]["variant"]["dpsgd"]["epochs"] = 1
    metrics = talkative.done("train", "dpsgd")["metrics"]
    assert 2.9 < metrics["train/epsilon"]["0"]["value"] <= 3
    assert metrics["test/perplexity"]["0"]["value"] < 257


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secret": {"repetitions": 401}}, "toy.train.base.secret.repetitions: 401 is more than the 400 training ex"),
        (
            {"secret": {"length": 20, "alphabet": ["0", "1"]}},
            "toy.train.base.secret.length: the canary is 51 tokens and the model reads 32",
        ),
        (
            {"privacy": {"epsilon": 3.0, "delta": 1e-5, "clipping_norm": 0.1, "layers": "public"}},
            "privacy.layers: public takes random texts with labels, which classifiers alone have; allowed for other",
        ),
    ],
)
def test_what_a_language_model_cannot_do_is_refused(talkative, changes, message):
    base, private = talkative.parameters["toy"]["train"]["base"], "privacy" in changes
    base["secret"] |= changes.pop("secret", {})
    if private:
        talkative.parameters["toy"]["train"]["variant"]["dpsgd"]["privacy"] = changes["privacy"]
    assert message in talkative.refused("train", "dpsgd" if private else "none")


@pytest.mark.parametrize(("verb", "cell"), [("train", "none"), ("federate", "fedavg")])
def test_a_network_without_adapters_is_not_trained(talkative, llama, verb, cell):
    network = {key: value for key, value in llama.items() if key != "adapters"}
    talkative.parameters["models"]["mean"]["network"] = network
    talkative.parameters["toy"]["partition"] = "halves"
    problem, remedy = "left out or 0, so that nothing of the model is trained", "give it, or train another model"
    assert f"models.mean.network.adapters: {problem}; {remedy}" in talkative.refused(verb, cell)


def test_mislabelled_canaries_are_refused(talkative):
    base = talkative.parameters["toy"]["train"]["base"]
    del base["secret"]
    talkative.parameters["toy"]["partition"] = "halves"
    base |= {"train_on": "member", "canaries": 10}
    message = "toy.train.base.canaries: these canaries are mislabelled, and a language model knows no labels"
    assert message in talkative.refused("train", "none")


@pytest.fixture
def of_words(talkative, word_settings):
    """The study with a network of words in the place of the one over bytes, and a client for each label."""
    talkative.parameters["models"]["mean"] = word_settings(hidden=16, layers=1).model_dump()
    toy = talkative.parameters["toy"]
    toy["partition"] = "halves"
    for verb in ("train", "federate"):
        toy[verb]["base"] |= {"train_on": "member"}
    return talkative


def test_a_network_of_words_is_fitted_by_both_verbs(of_words):
    del of_words.parameters["toy"]["train"]["base"]["secret"]
    metrics = of_words.done("train", "none")["metrics"]
    measured = {f"{split}/{name}" for split in ("train", "test") for name in ("perplexity", "next_word_accuracy")}
    assert measured | {"train/parameters"} == set(metrics)
    # A label prefers ten words; of 22 outputs drawn alike the perplexity would be 22.
    assert 1 < metrics["test/perplexity"]["0"]["value"] < 18
    # A constant word is right about once in 20.
    assert metrics["train/next_word_accuracy"]["0"]["ci_low"] > 0.05
    assert {"test/perplexity", "test/next_word_accuracy"} < of_words.done("federate", "fedavg")["metrics"].keys()


def test_a_network_of_words_hides_no_secret(of_words):
    message = "secret: a network of words takes all words outside its vocabulary for one; train a language model of"
    assert message in of_words.refused("train", "none")


def test_other_verbs_refuse_language_models(talkative):
    talkative.parameters["toy"]["partition"] = "halves"
    talkative.done("train", "none")
    message = "is a language model, and this needs a classifier; train, federate and score take every model"
    assert message in talkative.refused("attack", "none")
    message = "`predictions` measures classifiers, and `none` has a language model of network.kind bytes;"
    assert message in talkative.refused("score", "none")
