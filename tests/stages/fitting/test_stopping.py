import pytest
import torch

from stages.fitting import ordinary
from stages.fitting.stopping import EarlyStopping
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples


@pytest.fixture
def stopping(model_settings, texts):
    """Return a function that makes early stopping of a new model, and the model."""
    table, settings = texts(60), model_settings(dropout=0.4)
    known = vocabulary(table)
    model = files.build(settings, known.labels, [], seed=7)
    data = examples(table, settings, known)
    return lambda after: (EarlyStopping(model, data, after), model, data)


def scripted(stop, model, losses, monkeypatch):
    """Return the epochs that training would take if the validation losses were these; weights name their epoch."""
    for epoch, loss in enumerate(losses, start=1):
        with torch.no_grad():
            model.labels.bias.fill_(epoch)
        monkeypatch.setattr(stop, "_objective", lambda *given, loss=loss: torch.full((len(given[1]),), loss))
        if stop():
            return epoch
    return len(losses)


@pytest.mark.parametrize(
    ("after", "losses", "epochs", "best"),
    [
        (3, [5, 4, 3, 2, 2.5, 1], 5, 4),
        (3, [5, 6, 7, 2, 1, 1, 3], 7, 5),
        (3, [1, 2, 3, 4, 0], 4, 1),
        (1, [1, 2, 0], 2, 1),
        (3, [4, 3, 2, 1], 4, 4),
        (3, [4, 3, 5, 4, 3.5], 5, 2),
    ],
)
def test_it_stops_at_the_first_rise_after_an_epoch_and_goes_back_to_the_best(
    stopping, monkeypatch, after, losses, epochs, best
):
    stop, model, _ = stopping(after)
    assert scripted(stop, model, losses, monkeypatch) == epochs
    assert stop.losses == pytest.approx(losses[:epochs])
    stop.restore()
    assert (model.labels.bias == best).all()


def test_the_loss_is_the_mean_without_dropout(stopping):
    stop, model, data = stopping(1)
    model.train()
    stop()
    assert model.training
    model.eval()
    with torch.no_grad():
        own = model.objective(data)(model(*model.inputs(data.text)), torch.arange(60)).mean()
    assert stop.losses == [pytest.approx(own.item())]


def test_training_with_it_takes_the_same_steps_as_without(stopping):
    stop, model, data = stopping(50)
    start = {name: tensor.clone() for name, tensor in files.trained_state(model).items()}
    arguments = model.inputs(data.text), model.objective(data), 8, 4, 0.01, 0
    plain = ordinary.fit(model, *arguments)
    end = {name: tensor.clone() for name, tensor in files.trained_state(model).items()}
    model.load_state_dict(start, strict=False)
    assert ordinary.fit(model, *arguments, stop) == plain
    assert all(torch.equal(tensor, end[name]) for name, tensor in files.trained_state(model).items())
    assert len(stop.losses) == 4
