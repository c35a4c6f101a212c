"""Inclusion probabilities, sums without bias and what a cohort does not depend on, by simulation against theory."""

from itertools import permutations

import numpy as np
import pytest
from federated_cases import federation
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chisquare

from stages.federate.population import Participant
from stages.federate.rules import Selection, heavy_from
from stages.federate.selection import Successive, _rate, _Rings, drawing
from stages.federate.server import weight

# Of a few devices with many examples and many with few, as in the field.
COUNTS = np.array([100, 50, 10, 5, 5, 2, 1, 1])


def rule(name, **settings):
    return TypeAdapter(Selection).validate_python({"rule": name, **settings}, strict=True)


RULES = {
    "uniform": rule("uniform"),
    "proportional": rule("power"),
    "power, small": rule("power", exponent=0.5),
    "power, large": rule("power", exponent=2.0),
    "with replacement": rule("power", draw="with_replacement"),
    "independently": rule("power", draw="independently"),
    "log": rule("log"),
    "threshold": rule("threshold", least=5),
    "threshold, by quantile": rule("threshold", quantile=0.5),
    "top": rule("top"),
    "strata": rule("strata", quantile=0.7, share=0.5),
}


def cohorts(of, counts, size, number):
    draw = drawing(of, np.asarray(counts), size)
    source = np.random.default_rng(0)
    return [draw(source) for _ in range(number)]


def frequencies(drawn, devices):
    """Return how often each device was drawn, in all."""
    times = np.zeros(devices, dtype=np.int64)
    for each in drawn:
        np.add.at(times, each.devices, each.times)
    return times


def successive(weights, size):
    """Return the probability of each device to be among the first so many, by all orders of the devices."""
    weights = np.asarray(weights, dtype=float)
    found = np.zeros(len(weights))
    for order in permutations(range(len(weights)), size):
        chance, left = 1.0, weights.sum()
        for device in order:
            chance *= weights[device] / left
            left -= weights[device]
        found[list(order)] += chance
    return found


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_draws_without_replacement_are_successive_sampling(exponent):
    counts, number = np.array([20, 9, 4, 2, 1, 0]), 40_000
    drawn = cohorts(rule("power", exponent=exponent), counts, 2, number)
    found, expected = frequencies(drawn, 6) / number, successive(np.where(counts, counts**exponent, 0.0), 2)
    assert found == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(number))
    assert found[5] == 0


def test_pairs_are_drawn_as_often_as_successive_sampling_draws_them():
    counts, number = np.array([8, 4, 2, 1]), 40_000
    seen = {}
    for each in cohorts(RULES["proportional"], counts, 2, number):
        seen[tuple(each.devices)] = seen.get(tuple(each.devices), 0) + 1
    p = counts / counts.sum()
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j]) for i in range(4) for j in range(i + 1, 4)}
    assert chisquare([seen[pair] for pair in expected], [number * e for e in expected.values()]).pvalue > 1e-3


# Of 20 devices three are heavy, and the others ring; of two places they have about one.
MANY = np.array([300, 200, 150, *range(1, 18)])


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_so_are_those_of_many_light_devices_beside_heavy_ones(exponent):
    number, weights = 60_000, MANY**exponent
    assert _heavy_and_light(weights) == (3, 17)
    found = frequencies(cohorts(rule("power", exponent=exponent), MANY, 2, number), 20) / number
    assert found == pytest.approx(successive(weights, 2), abs=4 * 0.5 / np.sqrt(number))
    estimates = [
        (MANY[drawn.devices] * drawn.devices / drawn.expected).sum() / MANY.sum()
        for drawn in cohorts(rule("power", exponent=exponent), MANY, 2, number)
    ]
    exact = (MANY * np.arange(20)).sum() / MANY.sum()
    assert np.mean(estimates) == pytest.approx(exact, abs=4 * np.std(estimates) / np.sqrt(number))


def _heavy_and_light(weights):
    drawn_by = Successive(weights, 2)
    return len(drawn_by._heavy), int((np.diff(drawn_by._rings._cumulative, prepend=0) > 0).sum())


def test_weights_that_differ_by_more_than_a_sum_can_hold_stop_no_draw():
    weights = np.array([1, 1000, 1000, 100_000, 10_000]) ** 4.0
    for seed in range(20):
        assert len(Successive(weights, 2).draw(np.random.default_rng(seed)).devices) == 2
    for size in (1, 2, 3, 4):
        probabilities = np.minimum(1, _rate(weights, size, 1.0) * weights)
        assert probabilities.sum() == pytest.approx(size)


def test_exponents_of_none_and_one_are_uniform_and_proportional_selection():
    number = 20_000
    [alike, uniform, power] = [
        frequencies(cohorts(of, COUNTS, 3, number), 8)
        for of in (rule("power", exponent=0.0), RULES["uniform"], RULES["proportional"])
    ]
    assert chisquare(alike, np.full(8, 3 * number / 8)).pvalue > 1e-3
    assert chisquare(uniform, np.full(8, 3 * number / 8)).pvalue > 1e-3
    # Proportional is of the first draw; of three, those of the enumeration.
    assert power / number == pytest.approx(successive(COUNTS, 3), abs=4 * 0.5 / np.sqrt(number))


def test_draws_with_replacement_and_independent_ones_are_as_probable_as_said():
    number, p = 20_000, COUNTS / COUNTS.sum()
    repeated = frequencies(cohorts(RULES["with replacement"], COUNTS, 3, number), 8)
    assert chisquare(repeated, 3 * number * p).pvalue > 1e-3
    for of in (
        RULES["independently"],
        rule("power", draw="independently", rate=0.01),
        rule("power", draw="independently", most=0.6),
    ):
        joined = frequencies(cohorts(of, COUNTS, 3, number), 8) / number
        rate = of.rate or np.interp(3, *_expected_cohorts(of.most))
        assert joined == pytest.approx(np.minimum(of.most, rate * COUNTS), abs=4 * 0.5 / np.sqrt(number) + 1e-3)


def _expected_cohorts(most):
    rates = np.geomspace(1e-4, 10, 200_000)
    return [sum(np.minimum(most, rates * count) for count in COUNTS), rates]


def test_a_threshold_of_none_is_uniform_and_others_leave_the_light_alone():
    number = 20_000
    assert chisquare(frequencies(cohorts(rule("threshold", least=0), COUNTS, 3, number), 8)).pvalue > 1e-3
    some = frequencies(cohorts(RULES["threshold"], COUNTS, 3, number), 8)
    assert (some[5:] == 0).all()
    assert chisquare(some[:5]).pvalue > 1e-3
    # Of the examples 1 1 2 5 5 10 50 100 the upper half begins at the higher 5.
    assert heavy_from(COUNTS, 0.5) == 5
    assert (frequencies(cohorts(rule("threshold", quantile=0.5), COUNTS, 3, 100), 8)[5:] == 0).all()


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30).filter(any), st.floats(0, 0.99))
def test_the_quantile_of_the_heavy_is_numpys(counts, quantile):
    counts = np.array(counts)
    expected = np.quantile(counts[counts > 0], quantile, method="higher")
    assert heavy_from(counts, quantile) == expected
    # Beyond the largest table it is numpy's itself.
    assert heavy_from(counts * 2**20, quantile) == expected * 2**20


def test_the_top_are_the_largest_and_chance_decides_between_those_alike():
    drawn = cohorts(rule("top"), COUNTS, 4, 4000)
    times = frequencies(drawn, 8)
    assert (times[:3] == 4000).all()
    assert times[3] + times[4] == 4000
    assert times[3] == pytest.approx(2000, abs=130)


def test_strata_have_the_places_that_are_said():
    of = RULES["strata"]
    assert heavy_from(COUNTS, 0.7) == 10
    for each in cohorts(of, COUNTS, 4, 50):
        assert (each.devices < 3).sum() == 2
    # A stratum that has fewer devices leaves its places to the other.
    for each in cohorts(of, COUNTS, 7, 50):
        assert (each.devices < 3).sum() in (2, 3)
        assert len(each.devices) == 7
    for each in cohorts(rule("strata", quantile=0.7, share=1.0), COUNTS, 5, 50):
        assert (each.devices < 3).sum() == 3


def estimates(of, weighting, size=3, number=40_000):
    """Return estimates of the mean over all examples of what is k for the examples of device k."""
    cell = federation(clients_per_round=size, selection=of.model_dump(), weighting=weighting)
    values, found = np.arange(8.0), []
    for drawn in cohorts(of, COUNTS, size, number):
        clients = [
            Participant(device, np.arange(COUNTS[device]), 1, times, expected)
            for device, times, expected in zip(*drawn[:3], strict=True)
        ]
        weights = np.array([weight(cell, client) for client in clients])
        divisor = COUNTS.sum() if weighting == "horvitz_thompson" else weights.sum()
        found.append((weights * values[drawn.devices]).sum() / divisor)
    return np.array(found)


EXACT = (COUNTS * np.arange(8)).sum() / COUNTS.sum()
# By the design and the weighting: what has no bias, and the expectations of some that have one.
UNBIASED = [
    ("uniform", "horvitz_thompson"),
    ("proportional", "horvitz_thompson"),
    ("power, small", "horvitz_thompson"),
    ("power, large", "horvitz_thompson"),
    ("log", "horvitz_thompson"),
    ("strata", "horvitz_thompson"),
    ("with replacement", "horvitz_thompson"),
    ("with replacement", "equal"),
    ("independently", "horvitz_thompson"),
]
BIASED = [("uniform", "equal", 3.505), ("uniform", None, 1.721), ("proportional", "equal", 1.506)]
BIASED += [("proportional", None, 0.437), ("with replacement", None, 0.298)]


@pytest.mark.parametrize(("design", "weighting"), UNBIASED, ids=str)
def test_these_weights_add_up_to_the_mean_over_all_examples(design, weighting):
    found = estimates(RULES[design], weighting)
    assert found.mean() == pytest.approx(EXACT, abs=4 * found.std() / np.sqrt(len(found)))


@pytest.mark.parametrize(("design", "weighting", "expected"), BIASED, ids=str)
def test_these_do_not_and_are_off_by_as_much_as_was_computed(design, weighting, expected):
    found = estimates(RULES[design], weighting)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - EXACT) > 8 * error
    assert found.mean() == pytest.approx(expected, abs=4 * error + 5e-4)


def test_a_draw_without_replacement_weighed_as_one_with_it_is_biased():
    found = []
    for drawn in cohorts(RULES["proportional"], COUNTS, 3, 40_000):
        share = COUNTS[drawn.devices] / COUNTS.sum()
        found.append((share / (3 * share) * drawn.devices).sum())
    assert abs(np.mean(found) - EXACT) > 8 * np.std(found) / np.sqrt(len(found))


def test_hajeks_weights_vary_less_and_have_some_bias():
    unbiased, hajek = (estimates(RULES["proportional"], weighting) for weighting in ("horvitz_thompson", "hajek"))
    assert hajek.std() < 0.7 * unbiased.std()
    assert 0 < abs(hajek.mean() - EXACT) < 0.2


@pytest.mark.parametrize("of", RULES.values(), ids=RULES)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any), st.integers(1, 45), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_cohort_is_live_devices_sorted_and_as_many_as_can_be(of, counts, size, seed):
    counts = np.array(counts)
    drawn = drawing(of, counts, size)(np.random.default_rng(seed))
    assert (np.diff(drawn.devices) > 0).all()
    assert (counts[drawn.devices] > 0).all()
    assert (drawn.times >= 1).all()
    assert not (drawn.expected <= 0).any()
    if of.rule == "threshold":
        can = int((counts >= max(1, heavy_from(counts, of.quantile) if of.least is None else of.least)).sum())
    else:
        can = int((counts > 0).sum())
    if getattr(of, "draw", "") == "with_replacement":
        assert drawn.times.sum() == size
    elif getattr(of, "draw", "") != "independently":
        assert len(drawn.devices) == min(size, can)


@pytest.mark.parametrize("of", RULES.values(), ids=RULES)
def test_one_huge_device_stops_no_draw(of):
    counts = np.ones(2000, dtype=np.int64)
    counts[7] = 10**9
    drawn = drawing(of, counts, 50)(np.random.default_rng(0))
    if of.rule in ("power", "top"):
        assert 7 in drawn.devices
    if getattr(of, "draw", "without_replacement") == "without_replacement" and of.rule != "threshold":
        assert len(drawn.devices) == 50


# Of strata all would be heavy, and of independent draws the size is left to chance.
@pytest.mark.parametrize("name", sorted(RULES.keys() - {"strata", "independently"}))
def test_rules_see_no_difference_between_devices_alike(name):
    times = frequencies(cohorts(RULES[name], np.full(10, 6), 3, 4000), 10)
    # Binomial(4000, .3): standard deviation 29.
    assert np.abs(times - 1200).max() < 130


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rule": "power", "exponent": -1.0}, "greater than or equal to 0"),
        ({"rule": "power", "rate": 0.1}, "draw: without_replacement takes neither `rate` nor `most`"),
        ({"rule": "threshold"}, "takes either `least`, a number of examples, or `quantile`"),
        ({"rule": "threshold", "least": 2, "quantile": 0.5}, "takes either"),
        ({"rule": "power_of_choice", "candidates": 4}, "4 are fewer than the 5 clients of a round"),
        ({"rule": "activity"}, "power_of_choice"),
    ],
    ids=str,
)
def test_settings_that_say_nothing_or_too_much_are_refused(asked, message):
    with pytest.raises(ValidationError, match=message):
        federation(selection=asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "scaffold", "weighting": "equal"}, "scaffold has its own"),
        ({"weighting": "hajek", "selection": {"rule": "top"}}, "not known of rule: top; it is of uniform, power, log"),
        ({"weighting": "hajek", "participation": {"available": 0.5}}, "devices that can always be asked"),
        ({"weighting": "hajek", "participation": {"stragglers": 0.5, "deadline": 2}}, "knows no odds of stragglers"),
        ({"mechanism": "scaffold", "selection": {"rule": "log", "draw": "independently"}}, "drawn without replacement"),
        (
            {"mechanism": "fednova", "selection": {"rule": "log", "draw": "with_replacement"}},
            "drawn without replacement",
        ),
    ],
    ids=str,
)
def test_weightings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        federation(**changes)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=1500).filter(any), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_who_rings_is_found_as_by_a_search_over_all(weights, seed):
    weights = np.array(weights, dtype=float)
    rung = _Rings(weights).ring(np.random.default_rng(seed), 200)
    where = np.random.default_rng(seed).random(200) * weights.sum()
    assert (rung == np.searchsorted(np.cumsum(weights), where, side="right")).all()
    assert (weights[rung] > 0).all()
