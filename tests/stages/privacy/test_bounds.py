"""Clipping layer by layer, in every rule and by every implementation, against a loop written out here."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

from stages.common.errors import SettingError
from stages.models.crf import Chain
from stages.privacy import bounds
from stages.privacy.bounds import Bound
from stages.privacy.clipping import ClippedGradients
from stages.privacy.references import Loop, Opacus

TOLERANCE = 1e-5


class Tagger(nn.Module):
    """Every kind of layer that a text classifier trains; with `tied`, its table is also the matrix of its scores."""

    def __init__(self, recurrent=True, tied=False):
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 3, batch_first=True, bidirectional=True) if recurrent else None
        self.inner = nn.Linear(6, 6)
        self.scores = nn.Linear(6, 9, bias=False)
        if tied:
            self.scores.weight = self.words.weight

    def forward(self, ids):
        states = self.norm(self.words(ids))
        if self.lstm is not None:
            states = self.lstm(states)[0]
        return self.scores(torch.tanh(self.inner(states))).mean(1)


MODELS = {
    "lstm": Tagger,
    "tied": lambda: Tagger(tied=True),
    "plain": lambda: Tagger(recurrent=False),
}
RULES = {
    "flat": bounds.flat,
    "equal": bounds.equal,
    "size": bounds.by_size,
    "public": lambda model: bounds.by_public_norms(model, lambda: losses(model, *examples(8, seed=9))),
}


def made(name):
    torch.manual_seed(0)
    return MODELS[name]()


def examples(n=6, seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (n, 5), generator=draws), torch.randint(0, 9, (n,), generator=draws)


def losses(model, ids, labels):
    return nn.functional.cross_entropy(model(ids), labels, reduction="none")


def unit_gradients(model, ids, labels, group=1):
    """Return per unit: parameter -> gradient of its mean loss."""
    parameters = list(model.parameters())
    found = []
    for rows in torch.arange(len(ids)).split(group):
        gradients = torch.autograd.grad(losses(model, ids[rows], labels[rows]).mean(), parameters)
        found.append(dict(zip(parameters, gradients, strict=True)))
    return found


def norm(gradients):
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


def by_hand(units, limits):
    """Return parameter -> sum of units whose every part was scaled to its limit: [(parameters, limit)]."""
    total = {}
    for unit in units:
        for parameters, limit in limits:
            factor = min(1.0, limit / norm([unit[parameter] for parameter in parameters]))
            for parameter in parameters:
                total[parameter] = total.get(parameter, 0.0) + factor * unit[parameter]
    return total


def clipped(clipping, model, ids, labels, pieces=1):
    model.zero_grad()
    size = len(ids) // pieces // clipping.group * clipping.group
    found = [
        clipping.add_clipped_sum(lambda rows: losses(model, ids[rows], labels[rows]), rows)
        for rows in torch.arange(len(ids)).split(max(1, size))
    ]
    norms = torch.cat([each for _, each in found])
    return {parameter: parameter.grad.clone() for parameter in clipping.parameters}, norms


def error(found, expected):
    assert set(found) == set(expected)
    return norm([found[each] - expected[each] for each in expected]) / norm(expected.values())


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=MODELS)
def model(request):
    return made(request.param)


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("implementation", [ClippedGradients, Loop])
def test_the_sum_is_that_of_a_loop_that_clips_each_layer(model, rule, implementation, group):
    ids, labels = examples()
    units = unit_gradients(model, ids, labels, group)
    expected_norms = [norm(unit.values()) for unit in units]
    bound = sorted(expected_norms)[len(units) // 2]
    parts = rule(model)
    expected = by_hand(units, [(part.parameters, bound * part.share) for part in parts])

    found, norms = clipped(implementation(model, bound, group, parts), model, ids, labels, pieces=2)

    assert error(found, expected) <= TOLERANCE
    assert norms.tolist() == pytest.approx(expected_norms, rel=TOLERANCE)


@pytest.mark.parametrize("bound", [1e-3, 0.3])
def test_no_unit_exceeds_the_clipping_norm(model, rule, bound):
    ids, labels = examples()
    clipping = ClippedGradients(model, bound, 1, rule(model))
    for row in range(len(ids)):
        found, _ = clipped(clipping, model, ids[row : row + 1], labels[row : row + 1])
        assert norm(found.values()) <= bound * (1 + TOLERANCE)


def test_an_example_moves_the_sum_by_at_most_the_clipping_norm_and_another_in_its_place_by_twice_that(model, rule):
    ids, labels = examples()
    bound = 1e-2
    clipping = ClippedGradients(model, bound, 1, rule(model))
    whole, _ = clipped(clipping, model, ids, labels)
    others = (labels + 1) % 9
    for row in range(len(ids)):
        kept = torch.arange(len(ids)) != row
        less, _ = clipped(clipping, model, ids[kept], labels[kept])
        moved = norm([whole[each] - less[each] for each in whole])
        # All layers are clipped at so small a norm: a looser bound would show, and so would one that is not used up.
        assert moved == pytest.approx(bound, rel=1e-3)
        replaced, _ = clipped(clipping, model, ids, labels.where(kept, others))
        assert norm([whole[each] - replaced[each] for each in whole]) <= 2 * bound * (1 + 1e-4)


def test_the_rules_divide_the_clipping_norm_as_they_say():
    model = made("tied")
    layers = [bound.name for bound in bounds.equal(model)]
    # The tied matrix belongs to the table; the scores have nothing of their own.
    assert layers == ["words", "norm", "lstm", "inner"]
    assert [bound.share for bound in bounds.equal(model)] == pytest.approx([0.5] * 4)
    sizes = [54, 12, 2 * (4 * 3 * (6 + 3 + 2)), 42]
    assert [bound.size for bound in bounds.by_size(model)] == sizes
    shares = [math.sqrt(size / sum(sizes)) for size in sizes]
    assert [bound.share for bound in bounds.by_size(model)] == pytest.approx(shares)


def test_public_bounds_follow_the_norms_of_layers_on_the_examples_given():
    model = made("lstm")
    ids, labels = examples(8, seed=9)
    units = unit_gradients(model, ids, labels)
    found = bounds.by_public_norms(model, lambda: losses(model, ids, labels))
    sums = [math.sqrt(sum(norm([unit[p] for p in bound.parameters]) ** 2 for unit in units)) for bound in found]
    assert [bound.share for bound in found] == pytest.approx([each / math.hypot(*sums) for each in sums], rel=1e-4)
    assert model.training


def test_a_layer_that_public_examples_do_not_reach_still_takes_a_part():
    model = made("plain")
    found = bounds.by_public_norms(model, lambda: model.words(torch.tensor([1, 2])).sum(1))
    assert [bound.share for bound in found] == pytest.approx([1.0, 1e-3, 1e-3, 1e-3], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[1:], "each trained parameter is bounded once"),
        (lambda found: [*found, found[0]], "each trained parameter is bounded once"),
        (lambda found: [Bound("", found[0].parameters, 0.0), *found[1:]], "each share is above 0"),
        (lambda found: [Bound("", each.parameters, 0.6) for each in found], "a norm of 1.2 clipping norms"),
    ],
)
@pytest.mark.parametrize("implementation", [ClippedGradients, Loop])
def test_bounds_that_do_not_bound_the_gradient_are_refused(implementation, change, message):
    model = made("plain")
    with pytest.raises(ValueError, match=message):
        implementation(model, 1.0, 1, change(bounds.equal(model)))


@pytest.mark.parametrize("implementation", [ClippedGradients, Loop])
def test_an_infinite_clipping_norm_clips_nothing(implementation):
    model = made("lstm")
    ids, labels = examples()
    expected = by_hand(unit_gradients(model, ids, labels), [(list(model.parameters()), 1e6)])
    assert error(clipped(implementation(model, math.inf), model, ids, labels)[0], expected) <= TOLERANCE


@pytest.mark.parametrize("implementation", [ClippedGradients, Loop])
def test_a_layer_that_is_not_finite_takes_the_example_out_of_all_layers(implementation):
    model = made("plain")
    ids, labels = examples()
    parts = bounds.equal(model)
    kept = (ids != 0).all(1)
    assert 0 < kept.sum() < len(ids)
    expected, _ = clipped(implementation(model, 0.1, 1, parts), model, ids[kept], labels[kept])
    with torch.no_grad():
        model.words.weight[0] = float("nan")
    found, norms = clipped(implementation(model, 0.1, 1, parts), model, ids, labels)
    assert norms.isfinite().tolist() == kept.tolist()
    assert error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("bound", [0.5, math.inf])
def test_all_implementations_take_the_same_steps(bound):
    start, (ids, labels) = made("plain"), examples()
    ends = {}
    for name, make in {
        "book_keeping": ClippedGradients,
        "loop": Loop,
        "opacus_hooks": lambda model, norm: Opacus(model, norm, ghost=False),
        "opacus_ghost": lambda model, norm: Opacus(model, norm, ghost=True),
    }.items():
        model = copy.deepcopy(start).train()
        clipping, optimiser = make(model, bound), torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            _, norms = clipped(clipping, model, ids, labels, pieces=2)
            optimiser.step()
        assert not [module for module in model.modules() if module._forward_hooks or module._backward_hooks]
        ends[name] = (torch.cat([p.detach().flatten() for p in model.parameters()]), norms)
    expected, norms = ends["loop"]
    moved = expected - torch.cat([p.detach().flatten() for p in start.parameters()])
    for found, found_norms in ends.values():
        # Opacus' 1e-6 beside a norm near 1 is what is left.
        assert (found - expected).norm() <= TOLERANCE * moved.norm()
        torch.testing.assert_close(found_norms, norms, rtol=1e-4, atol=0)


@pytest.mark.parametrize("ghost", [False, True])
def test_opacus_refuses_what_it_does_not_know(ghost, monkeypatch):
    with pytest.raises(SettingError, match=r"cannot take gradients of nn\.LSTM: Opacus knows its own DPLSTM only"):
        Opacus(made("lstm"), 1.0, ghost)
    with pytest.raises(SettingError, match="cannot take gradients of Chain, which maps no input"):
        Opacus(nn.Sequential(nn.Linear(2, 2), Chain(2)), 1.0, ghost)
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(SettingError, match="needs the package opacus, which is not installed"):
        Opacus(made("plain"), 1.0, ghost)
