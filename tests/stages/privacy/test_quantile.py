"""A clipping norm that follows a quantile: where it settles, and what the count costs beside the gradients."""

import math
import re

import numpy as np
import pytest
import torch
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution

from stages.common.errors import SettingError
from stages.privacy.quantile import Quantile, shifted_count


@pytest.mark.parametrize("start", [1e-2, 100.0])
@pytest.mark.parametrize("target", [0.5, 0.8])
def test_the_clipping_norm_settles_at_the_quantile_of_the_norms(start, target):
    draws = np.random.default_rng(0)
    quantile, found = Quantile(target=target, learning_rate=0.2, noise=10.0), [start]
    for _ in range(400):
        # Poisson batches: their true size differs from the expected one that the count is divided by.
        norms = torch.from_numpy(draws.lognormal(0.0, 1.0, size=draws.poisson(250)))
        found.append(quantile.next(found[-1], shifted_count(norms, found[-1]), 250, draws))
    within = [math.erf(math.log(norm) / math.sqrt(2)) / 2 + 0.5 for norm in found[-200:]]
    # A step's fraction has a standard deviation of 0.05, of which the mean of 200 takes little.
    assert np.mean(within) == pytest.approx(target, abs=0.02)
    assert np.std(within) < 0.05


def test_a_unit_counts_half_for_or_half_against():
    norms = torch.tensor([0.5, 1.0, 1.5, float("inf"), float("nan")])
    assert shifted_count(norms, 1.0) == 1 - 1.5
    assert shifted_count(norms[:0], 1.0) == 0.0


def test_the_noise_on_the_count_has_the_standard_deviation_it_is_accounted_with():
    draws = np.random.default_rng(0)
    logarithms = [
        math.log(Quantile(target=0.5, learning_rate=1.0, noise=7.0).next(1.0, 0.0, 100, draws)) for _ in range(2000)
    ]
    assert np.std(logarithms) == pytest.approx(0.07, rel=0.06)
    assert abs(np.mean(logarithms)) < 4 * 0.07 / math.sqrt(2000)


@pytest.mark.parametrize("relation", [NeighboringRelation.ADD_OR_REMOVE_ONE, NeighboringRelation.REPLACE_ONE])
@pytest.mark.parametrize(("sigma", "count_noise"), [(1.0, 0.6), (2.0, 5.0), (3.0, 10.0)])
def test_gradients_and_count_together_cost_what_is_accounted_for(relation, sigma, count_noise):
    def gaussian(multiplier, steps=4):
        found = privacy_loss_distribution.from_gaussian_mechanism(
            multiplier, value_discretization_interval=1e-3, neighboring_relation=relation
        )
        return found.self_compose(steps)

    gradients = gaussian(Quantile(target=0.5, learning_rate=0.2, noise=count_noise).gradient_multiplier(sigma))
    # One unit moves the count by 1/2: a Gaussian mechanism of multiplier 2 s.
    count = gaussian(2 * count_noise)
    together = gradients.compose(count).get_epsilon_for_delta(1e-5)
    assert together == pytest.approx(gaussian(sigma).get_epsilon_for_delta(1e-5), rel=2e-3)
    assert together > gradients.get_epsilon_for_delta(1e-5) * 1.001


def test_noise_on_the_count_that_leaves_nothing_for_the_gradients_is_refused():
    with pytest.raises(SettingError) as refused:
        Quantile(target=0.5, learning_rate=0.2, noise=0.5).gradient_multiplier(1.0)
    assert refused.value.setting == "privacy.quantile.noise"
    assert refused.value.problem == "0.5 leaves nothing of a noise multiplier of 1 for the gradients"
    least = float(re.search(r"more than half of it, ([\d.]+)$", refused.value.remedy)[1])
    assert Quantile(target=0.5, learning_rate=0.2, noise=least * 1.001).gradient_multiplier(1.0) > 1.0
