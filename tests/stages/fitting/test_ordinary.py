import pytest
import torch

from stages.fitting import ordinary
from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples


@pytest.fixture
def setting(model_settings, texts):
    """Return a function that fits 50 texts from one start and returns the model and its history."""
    table, settings = texts(50, preference=0.9), model_settings()
    known = vocabulary(table)
    data = examples(table, settings, known)

    def fit(batch_size=8, epochs=3, learning_rate=0.01, seed=0, dropout=0.0):
        model = files.build(model_settings(dropout=dropout), known.labels, [], seed=7)
        objective, inputs = model.objective(data), model.inputs(data.text)
        history = ordinary.fit(model, inputs, objective, batch_size, epochs, learning_rate, seed)
        return model, history, (inputs, objective, data)

    return fit


def weights(model):
    return torch.cat([tensor.flatten() for tensor in files.trained_state(model).values()])


def test_one_full_batch_is_one_step_of_adam(setting):
    model, history, (inputs, objective, _) = setting(batch_size=50, epochs=1)
    start = setting(epochs=1, learning_rate=1e-30)[0]
    parameters = [p for p in start.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.01)
    optimiser.zero_grad()
    loss = objective(start(*inputs), torch.arange(50)).mean()
    loss.backward()
    optimiser.step()
    # Adam's first step is the sign of the gradient: where that is nothing but rounding, so is the step.
    firm = torch.cat([p.grad.flatten() for p in parameters]).abs() > 1e-6
    assert firm.sum() > 30
    torch.testing.assert_close(weights(model)[firm], weights(start)[firm])
    assert history == [pytest.approx(loss.item())]


def test_each_epoch_sees_every_example_once(setting):
    seen = []
    model, _, (inputs, objective, _) = setting(epochs=1)

    def watching(scores, rows):
        seen.extend(rows.tolist())
        return objective(scores, rows)

    ordinary.fit(model, inputs, watching, batch_size=8, epochs=2, learning_rate=0.01, seed=0)
    assert [sorted(seen[:50]), sorted(seen[50:])] == [list(range(50))] * 2
    assert seen[:50] != seen[50:]


def test_the_history_is_the_mean_loss_over_examples(setting):
    # Without learning, every epoch has the loss of the start, although its last batch is smaller.
    model, history, (inputs, objective, _) = setting(epochs=2, learning_rate=1e-30)
    assert history == [pytest.approx(objective(model(*inputs), torch.arange(50)).mean().item())] * 2


def test_the_loss_falls(setting):
    _, history, _ = setting(epochs=15, learning_rate=0.05)
    assert history[-1] < 0.7 * history[0]


def test_the_same_seed_is_bit_identical(setting):
    assert torch.equal(weights(setting(seed=1, dropout=0.3)[0]), weights(setting(seed=1, dropout=0.3)[0]))


def test_another_seed_is_another_order(setting):
    assert not torch.equal(weights(setting(seed=1)[0]), weights(setting(seed=2)[0]))


def test_the_fitted_model_is_in_eval_mode(setting):
    assert not setting(epochs=1)[0].training
