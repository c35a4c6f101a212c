import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from stages.models import files
from stages.models.examples import vocabulary
from stages.models.kinds import examples
from stages.privacy import bounds
from stages.privacy.accounting import Mechanism, Phase
from stages.privacy.clipping import ClippedGradients
from stages.privacy.quantile import Quantile
from stages.privacy.references import Loop, Opacus
from stages.train import dpsgd

HEADS = ["mean", "mean, tags", "bilstm, tags", "bert", "tagger, tags"]


@pytest.fixture
def sgd(monkeypatch):
    """Take plain steps of size 1, so that the weights before less the weights after are the privatised gradient."""
    monkeypatch.setattr(dpsgd, "Adam", torch.optim.SGD)


class Case:
    """A model of one start and the texts it is trained on."""

    def __init__(self, settings, table, known=None):
        self.settings, self.known = settings, known or vocabulary(table)
        self.data = examples(table, settings, self.known)

    def model(self):
        return files.build(self.settings, self.known.labels, self.known.tags, 0).train()

    def gradient(self, rows=None, probability=1.0, noise=0.0, norm=0.5, seed=0, steps=1, group=1):
        """Return parameter -> the privatised gradient of one step on some rows."""
        model = self.model()
        before, data = trained(model), self.data if rows is None else self.data[np.array(rows)]
        train(model, data, probability, steps, 1.0, noise, norm, seed, group)
        return {name: before[name] - after for name, after in trained(model).items()}

    def gradients_one_at_a_time(self):
        """Return per example: parameter -> gradient of its own loss, by plain autograd on a batch of one."""
        model = self.model()
        inputs, objective = model.inputs(self.data.text), model.objective(self.data)
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = []
        for row in torch.arange(len(self.data)).split(1):
            loss = objective(model(*(tensor[row] for tensor in inputs)), row).sum()
            found.append(dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
        return found


def train(model, data, probability, steps, learning_rate, noise, norm, seed, group=1):
    mechanism = Mechanism(probability, (Phase(steps, noise),), group)
    clipping = ClippedGradients(model, norm, group)
    return dpsgd.train(model, data, mechanism, learning_rate, clipping, norm, seed)


def trained(model):
    return {name: tensor.clone() for name, tensor in files.trained_state(model).items()}


def norm(gradient):
    return float(torch.sqrt(sum((tensor**2).sum() for tensor in gradient.values())))


def clipped_sum(gradients, bound):
    return {
        name: sum(gradient[name] * min(1.0, bound / norm(gradient)) for gradient in gradients) for name in gradients[0]
    }


def error(found, expected):
    """Return the relative error over all parameters together."""
    assert set(found) == set(expected)
    return norm({name: found[name] - expected[name] for name in expected}) / norm(expected)


def flat(gradient):
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)]).numpy()


@pytest.fixture
def case(request, model_settings, texts, sgd):
    """Eight texts of 1 to 9 words for the head that the test asks for, in one batch with padding."""
    changes = {"head": "bilstm" if "bilstm" in request.param else "mean"}
    if request.param.startswith("bert"):
        changes["encoder"] = request.getfixturevalue("bert")
    if request.param.startswith("tagger"):
        changes = request.getfixturevalue("tagger")
    if request.param.startswith("characters"):
        changes = request.getfixturevalue("tagger") | {"head": "mean", "tagger": "independent"}
    return Case(model_settings(**changes), texts(8, tags="tags" in request.param))


@pytest.mark.parametrize("case", HEADS, indirect=True)
def test_without_noise_the_gradient_is_the_clipped_sum_of_a_loop_over_examples(case):
    gradients = case.gradients_one_at_a_time()
    bound = float(np.median([norm(gradient) for gradient in gradients]))
    expected = {name: tensor / 8 for name, tensor in clipped_sum(gradients, bound).items()}
    assert error(case.gradient(norm=bound), expected) <= 1e-5


@pytest.mark.parametrize("case", ["bilstm, tags"], indirect=True)
def test_without_noise_and_clipping_the_gradient_is_the_ordinary_one(case):
    gradients = case.gradients_one_at_a_time()
    expected = {name: sum(gradient[name] for gradient in gradients) / 8 for name in gradients[0]}
    assert error(case.gradient(norm=1e6), expected) <= 1e-5


@pytest.mark.parametrize("case", ["mean, tags", "bilstm, tags", "bert", "tagger, tags"], indirect=True)
def test_a_batch_in_several_pieces_takes_the_step_of_one(case, monkeypatch):
    whole = case.gradient()
    monkeypatch.setattr(dpsgd, "PHYSICAL_BATCH", 3)
    assert error(case.gradient(), whole) <= 1e-5


@pytest.mark.parametrize("case", ["mean, tags", "bilstm, tags", "bert"], indirect=True)
def test_removing_an_example_moves_the_sum_by_at_most_the_clipping_norm(case):
    bound = 0.5
    whole = {name: 8 * tensor for name, tensor in case.gradient(norm=bound).items()}
    moved = []
    for absent in range(8):
        less = case.gradient([row for row in range(8) if row != absent], norm=bound)
        moved.append(norm({name: whole[name] - 7 * tensor for name, tensor in less.items()}))
    assert max(moved) <= bound * (1 + 1e-4)
    # All are clipped here, so a looser clip would show.
    assert min(moved) >= bound * (1 - 1e-4)


@pytest.mark.parametrize("case", ["mean, tags", "bilstm, tags"], indirect=True)
def test_a_group_is_clipped_as_one(case):
    gradients = case.gradients_one_at_a_time()
    groups = [[gradients[row] for row in rows] for rows in dpsgd._deal(8, 4, seed=0)]
    means = [{name: sum(one[name] for one in group) / 4 for name in group[0]} for group in groups]
    bound = float(np.mean([norm(mean) for mean in means]))
    expected = {name: tensor / 2 for name, tensor in clipped_sum(means, bound).items()}
    assert error(case.gradient(norm=bound, group=4), expected) <= 1e-5


@pytest.mark.parametrize("case", ["mean, tags"], indirect=True)
def test_in_a_group_an_example_can_move_the_sum_by_more_than_the_clipping_norm(case):
    """Why groups are accounted for under replacement, at twice the norm: an example can turn its group around."""
    bound = 1e-3
    one = case.gradient([0] * 8, norm=bound, group=8)
    other = case.gradient([4] * 8, norm=bound, group=8)
    assert bound * 1.05 < norm({name: one[name] - other[name] for name in one}) <= 2 * bound * (1 + 1e-4)


def test_groups_are_dealt_without_looking_at_the_data_and_whole():
    rows = dpsgd._deal(10, 4, seed=0)
    assert rows.shape == (2, 4)
    assert len(set(rows.flatten())) == 8
    assert (rows == dpsgd._deal(10, 4, seed=0)).all()
    assert (rows != dpsgd._deal(10, 4, seed=1)).any()
    assert (dpsgd._deal(3, 1, seed=0) == [[0], [1], [2]]).all()


@pytest.fixture
def alike(model_settings, sgd):
    """Sixty-four texts that are all the same, so that a step is their number times one gradient."""
    table = pd.DataFrame({"example_id": [f"e{row}" for row in range(64)], "text": "ba be", "label": "ash"})
    return Case(model_settings(), table, vocabulary(pd.DataFrame({"label": ["ash", "birch"]})))


def test_batches_are_poisson_samples_divided_by_their_expected_size(alike):
    gradient = alike.gradients_one_at_a_time()[0]
    one = norm(clipped_sum([gradient], 0.5)) / 16
    drawn = np.array([norm(alike.gradient(probability=0.25, seed=seed)) / one for seed in range(150)])
    # Binomial(64, 1/4): mean 16, variance 12; bands of four standard errors.
    assert np.abs(drawn - np.round(drawn)).max() < 1e-3
    assert 14.87 < drawn.mean() < 17.13
    assert 6.4 < drawn.var(ddof=1) < 17.6


def test_batches_of_the_steps_of_a_run_differ(alike):
    at_once = norm(alike.gradient(probability=0.25, seed=3))
    steps = [norm(alike.gradient(probability=0.25, seed=3, steps=steps, norm=1e-6)) for steps in (1, 2, 3, 4, 5)]
    sizes = np.round(np.diff(steps, prepend=0.0) * 16 / 1e-6)
    assert at_once > 0
    assert len(set(sizes)) > 2
    assert sizes.mean() == pytest.approx(16, abs=4 * np.sqrt(12 / 5))


@pytest.fixture
def still(model_settings, sgd):
    """Texts of one label: the loss and its gradient are 0, so a step is nothing but noise."""
    table = pd.DataFrame({"example_id": [f"e{row}" for row in range(200)], "text": "ba be bi", "label": "ash"})
    return Case(model_settings(hidden=200), table)


@pytest.mark.parametrize(
    ("probability", "expected_batch"), [(1.0, 200), (0.1, 20), (1e-9, 1)], ids=["four pieces", "one piece", "empty"]
)
def test_the_noise_has_the_standard_deviation_it_is_accounted_with(still, probability, expected_batch):
    noise = flat(still.gradient(probability=probability, noise=3.0, norm=0.5)) * expected_batch
    # 2001 draws: the standard error of the standard deviation is 1.6%.
    assert 0.93 * 1.5 < noise.std() < 1.07 * 1.5
    assert abs(noise.mean()) < 4 * 1.5 / np.sqrt(len(noise))


def adapted(case, steps, noise=0.0, start=0.5, quantile=None, probability=1.0, learning_rate=1.0, group=1):
    """Return the model, and the clipping norm after some steps that a quantile adapts."""
    model = case.model()
    clipping = ClippedGradients(model, start, group)
    mechanism = Mechanism(probability, (Phase(steps, noise),), group)
    quantile = quantile or Quantile(target=0.5, learning_rate=0.2, noise=1.0)
    dpsgd.train(model, case.data, mechanism, learning_rate, clipping, start, 0, quantile)
    return model, clipping.clipping_norm


def test_with_a_quantile_the_noise_follows_the_clipping_norm_and_pays_for_the_count(still):
    quantile = Quantile(target=0.5, learning_rate=0.2, noise=2.0)
    start, ends = trained(still.model()), []
    for steps in (0, 1, 2):
        model, end = adapted(still, steps, noise=3.0, quantile=quantile)
        ends.append((flat({name: (start[name] - after) * 200 for name, after in trained(model).items()}), end))
    # 3 / sqrt(1 - (3 / 4)^2), of the clipping norm that the step began with.
    multiplier = 3 / np.sqrt(7 / 16)
    for (before, norm_before), (after, norm_after) in itertools.pairwise(ends):
        assert 0.93 * multiplier * norm_before < (after - before).std() < 1.07 * multiplier * norm_before
        # All norms are 0, so that the fraction is 1 but for its noise of 0.01.
        assert norm_after / norm_before == pytest.approx(np.exp(-0.2 * 0.5), rel=0.01)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("case", ["mean, tags"], indirect=True)
def test_with_a_quantile_the_clipping_norm_goes_to_that_of_the_gradients_it_clips(case, group):
    gradients = case.gradients_one_at_a_time()
    groups = [[gradients[row] for row in rows] for rows in dpsgd._deal(8, group, seed=0)]
    norms = sorted(norm({name: sum(one[name] for one in rows) / group for name in rows[0]}) for rows in groups)
    middle = len(norms) // 2
    quantile = Quantile(target=0.5, learning_rate=0.1, noise=0.05)
    # Steps too small to move the weights: the norms stay.
    _, end = adapted(case, 150, start=100.0, quantile=quantile, learning_rate=1e-30, group=group)
    assert 0.9 * norms[middle - 1] < end < 1.1 * norms[middle]


def test_a_count_of_an_empty_batch_takes_its_noise_too(still):
    assert adapted(still, 1, probability=1e-9)[1] not in (0.5, adapted(still, 2, probability=1e-9)[1])


def test_groups_that_are_not_those_accounted_for_are_refused(still):
    model = still.model()
    with pytest.raises(ValueError, match="groups of 2 are clipped, groups of 1 accounted for"):
        dpsgd.train(model, still.data, Mechanism(1.0, ()), 1.0, ClippedGradients(model, 1.0, 2), 1.0, 0)


@pytest.mark.parametrize("rule", [bounds.flat, bounds.equal, bounds.by_size])
def test_all_parameters_take_the_noise_of_the_whole_clipping_norm(still, rule):
    model = still.model()
    start = trained(model)
    clipping = ClippedGradients(model, 0.5, 1, rule(model))
    dpsgd.train(model, still.data, Mechanism(1.0, (Phase(1, 3.0),)), 1.0, clipping, 0.5, 0)
    noise = {name: (start[name] - after).flatten().numpy() * 200 for name, after in trained(model).items()}
    bias, weight = noise["hidden.0.bias"], noise["hidden.0.weight"]
    # 200 and 1600 draws: four standard errors of the standard deviation.
    assert 0.8 * 1.5 < bias.std() < 1.2 * 1.5
    assert 0.93 * 1.5 < weight.std() < 1.07 * 1.5
    assert correlation(bias, noise["labels.weight"]) < 0.3
    assert correlation(bias, weight[:200]) < 0.3
    assert correlation(weight[:800], weight[800:]) < 0.14


@pytest.mark.parametrize("case", ["mean", "mean, tags", "bert", "characters, tags"], indirect=True)
def test_all_ways_of_clipping_train_the_same_model(case):
    ends = {}
    for name, make in {
        "book_keeping": ClippedGradients,
        "loop": Loop,
        "opacus_hooks": lambda model, norm: Opacus(model, norm, ghost=False),
        "opacus_ghost": lambda model, norm: Opacus(model, norm, ghost=True),
    }.items():
        model = case.model()
        losses = dpsgd.train(model, case.data, Mechanism(0.5, (Phase(4, 0.1),)), 1.0, make(model, 0.5), 0.5, 0)
        ends[name] = (trained(model), losses)
    start = trained(case.model())
    for found, losses in ends.values():
        expected = {name: start[name] - after for name, after in ends["loop"][0].items()}
        assert error({name: start[name] - after for name, after in found.items()}, expected) <= 1e-4
        assert losses == pytest.approx(ends["loop"][1], rel=1e-4)


def correlation(one, other):
    return abs(np.corrcoef(one, other)[0, 1])


# Of 1600 and more independent draws: four standard errors are less than this.
INDEPENDENT = 0.1


def test_every_step_draws_its_own_noise(still):
    first = flat(still.gradient(noise=1.0))
    both = flat(still.gradient(noise=1.0, steps=2))
    assert correlation(first, both - first) < INDEPENDENT
    assert 0.9 * first.std() < (both - first).std() < 1.1 * first.std()


def test_every_seed_draws_its_own_noise(still):
    assert correlation(flat(still.gradient(noise=1.0)), flat(still.gradient(noise=1.0, seed=1))) < INDEPENDENT


def test_every_cell_draws_its_own_noise(still):
    # With that of another cell in it, the difference of two models would have none.
    found = []
    for cell in ((), (1,), (2,)):
        model = still.model()
        before = trained(model)
        clipping = ClippedGradients(model, 1.0)
        dpsgd.train(model, still.data, Mechanism(0.5, (Phase(1, 1.0),)), 1.0, clipping, 1.0, 0, cell=cell)
        found.append(flat({name: before[name] - after for name, after in trained(model).items()}))
    assert all(correlation(*pair) < INDEPENDENT for pair in itertools.combinations(found, 2))


def test_where_the_number_of_examples_is_a_secret_the_divisor_is_that_of_their_mean_number(still):
    steps = []
    for public_count in (None, 2 * len(still.data)):
        model = still.model()
        clipping = ClippedGradients(model, 1.0)
        mechanism = Mechanism(1.0, (Phase(1, 0.0),))
        dpsgd.train(model, still.data, mechanism, 1.0, clipping, 1.0, 0, public_count=public_count)
        steps.append(torch.cat([each.grad.flatten() for each in clipping.parameters]))
    torch.testing.assert_close(steps[1], steps[0] / 2)


def test_the_noise_does_not_follow_the_weights_drawn_from_the_same_seed(still):
    start = trained(still.model())["hidden.0.weight"].flatten()
    noise = still.gradient(noise=1.0, seed=0)["hidden.0.weight"].flatten()
    assert correlation(start, noise) < INDEPENDENT


@pytest.fixture
def real(model_settings, texts):
    """Trained by Adam, as in a study."""
    return Case(model_settings(), texts(60))


def run(case, probability=0.2, steps=10, noise=1.0, seed=0):
    model = case.model()
    return model, train(model, case.data, probability, steps, 0.01, noise, 1.0, seed)


def test_the_first_step_moves_every_trained_weight_and_no_other(model_settings, texts, bert):
    case = Case(model_settings(encoder=bert), texts(12))
    model = case.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, case.data, 1.0, 1, 0.01, 1.0, 1.0, 0)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(files.trained_state(model))


def test_an_empty_batch_still_moves_the_weights(real):
    before = trained(real.model())
    after = trained(run(real, probability=1e-9, steps=1)[0])
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_steps_without_an_example_have_a_loss_of_zero(real):
    assert run(real, probability=1e-9, steps=2)[1] == [0.0]


def test_the_history_has_one_loss_per_expected_epoch(real):
    assert len(run(real, probability=0.25, steps=12)[1]) == 3


def test_without_learning_the_history_is_the_mean_loss(real):
    model = real.model()
    losses = model.objective(real.data)(model(*model.inputs(real.data.text)), torch.arange(60))
    history = train(model, real.data, 1.0, 1, 1e-30, 0.0, 1.0, 0)
    assert history == [pytest.approx(losses.mean().item(), rel=1e-5)]


def test_the_same_seed_is_bit_identical(real):
    one, other = trained(run(real)[0]), trained(run(real)[0])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_trained_model_is_in_eval_mode_and_takes_ordinary_gradients_again(real):
    model, _ = run(real)
    assert not model.training
    loss = model(*model.inputs(real.data.text)).labels.sum()
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    assert all(gradient.isfinite().all() for gradient in gradients)
