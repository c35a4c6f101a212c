"""What selectors keep from round to round: live devices, losses, and what Oort has seen."""

import numpy as np
import pytest
from federated_cases import cohort_of, federation

from stages.common.errors import SettingError
from stages.federate.population import Dealt
from stages.federate.selectors import selector

SIZES = [40, 20, 10, 5, 5, 3, 2, 1]


def population(sizes=SIZES):
    return Dealt(np.repeat([f"c{client}" for client in range(len(sizes))], sizes))


def settings(rule, **changes):
    return federation(**{"clients_per_round": 3, "selection": rule} | changes)


def lost_by(values):
    """Return what asks devices, whose every example is lost by the device's value, and whom it asked."""
    asked = []

    def losses(devices):
        asked.extend(devices)
        return [np.full(SIZES[device], float(values[device])) for device in devices]

    return losses, asked


@pytest.mark.parametrize("rule", [{"rule": "uniform"}, {"rule": "power"}, {"rule": "top"}], ids=str)
def test_a_cohort_does_not_depend_on_the_order_of_the_examples(rule):
    owners = np.repeat([f"c{client}" for client in range(len(SIZES))], SIZES)
    shuffled = np.random.default_rng(0).permutation(owners)
    for number in range(1, 20):
        one, other = (
            [each.client for each in cohort_of(Dealt(names), settings(rule), number=number)]
            for names in (owners, shuffled)
        )
        assert one == other


@pytest.mark.parametrize("rule", [{"rule": "uniform"}, {"rule": "power"}, {"rule": "oort"}], ids=str)
def test_a_cohort_larger_than_the_population_is_refused(rule):
    with pytest.raises(SettingError, match="9 is more than the 8 clients of the partition"):
        selector(settings(rule, clients_per_round=9), population(), 0, losses=None)


def test_a_threshold_that_no_device_reaches_is_refused():
    rule = {"rule": "threshold", "least": 41}
    with pytest.raises(SettingError, match="41 is more than the 40 examples of the largest device"):
        selector(settings(rule), population(), 0, losses=None)


@pytest.mark.parametrize("rule", ["uniform", "power", "log", "top", "power_of_choice", "oort"])
def test_devices_without_live_examples_are_not_drawn_and_if_few_are_left_all_are(rule):
    asked = {"candidates": 5} if rule == "power_of_choice" else {}
    losses, _ = lost_by(np.ones(8))
    drawn_by = selector(settings({"rule": rule, **asked}), population(), 0, losses)
    names = np.repeat([f"c{client}" for client in range(len(SIZES))], SIZES)
    live = np.flatnonzero(np.isin(names, ["c1", "c6"]))
    # The same devices, of which two have kept an example.
    drawn_by.begin(Dealt(names, live))
    for number in range(1, 8):
        assert drawn_by.draw(number).devices.tolist() == [1, 6]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_stratum_that_is_never_asked_has_no_weights(share):
    cell = settings({"rule": "strata", "quantile": 0.7, "share": share}, weighting="horvitz_thompson")
    with pytest.raises(SettingError, match="leaves a stratum without a place in a cohort of 3"):
        selector(cell, population(), 0, losses=None).draw(1)


def test_drop_outs_are_expected_when_updates_are_weighed():
    cells = [settings({"rule": "power"}, participation={"drop_out": odds}) for odds in (0.0, 0.25)]
    all_answer, some = (cohort_of(population(), cell) for cell in cells)
    assert [each.expected for each in some] == pytest.approx([0.75 * each.expected for each in all_answer])


def test_who_cannot_be_asked_is_drawn_for_every_round():
    half = {"participation": {"available": 0.5}}
    drawn_by = selector(settings({"rule": "top"}, **half), population(), 0, losses=None)
    largest = [drawn_by.draw(number).devices.min() for number in range(1, 401)]
    # The largest device is first whenever it can be asked: binomial(400, 1/2), standard deviation 10.
    assert np.count_nonzero(np.array(largest) == 0) == pytest.approx(200, abs=45)


def test_a_client_that_was_drawn_twice_counts_twice():
    cell = settings({"rule": "power", "exponent": 4.0, "draw": "with_replacement"})
    cohort = cohort_of(population(), cell)
    assert sum(each.times for each in cohort) == 3
    assert cohort[0].times > 1


def test_power_of_choice_takes_the_largest_losses_of_its_candidates():
    losses, asked = lost_by(range(8))
    drawn_by = selector(settings({"rule": "power_of_choice", "candidates": 5}), population(), 0, losses)
    for number in range(1, 30):
        asked.clear()
        drawn = drawn_by.draw(number)
        assert len(asked) == 5
        assert drawn.devices.tolist() == sorted(asked)[-3:]
        assert drawn.passed_over == 2


def test_with_as_many_candidates_as_clients_it_is_selection_by_examples():
    losses, _ = lost_by(range(8))
    choice, power = (
        selector(settings(rule), population(), 0, losses)
        for rule in ({"rule": "power_of_choice", "candidates": 3}, {"rule": "power"})
    )
    for number in range(1, 30):
        assert choice.draw(number).devices.tolist() == power.draw(number).devices.tolist()


def oort(losses, **rule):
    return selector(settings({"rule": "oort", **rule}, clients_per_round=2), population(), 0, losses)


def test_oort_explores_less_and_less_and_then_exploits_what_is_lost_most():
    # Of equal utilities but one: n sqrt(mean of squared losses) is 40 of all, and 400 of the last.
    losses, _ = lost_by([40 / size for size in SIZES[:-1]] + [400])
    drawn_by = oort(losses, clip=1.0)
    seen, fresh, times = set(), [], np.zeros(8, dtype=int)
    for number in range(1, 200):
        devices = drawn_by.draw(number).devices.tolist()
        drawn_by.learn(number, devices)
        fresh.append(len(set(devices) - seen))
        seen |= set(devices)
        times[devices] += 1
    # 0.9 of two places, rounded, are both for devices that were never seen, as long as there are any.
    assert fresh[:4] == [2, 2, 2, 2]
    assert fresh[4:] == [0] * 195
    # The others return when they were not seen for long.
    assert times[7] > 2 * times[:7].max()
    assert times.min() > 5


def test_the_explored_share_shrinks_to_the_least():
    many = Dealt(np.repeat([f"c{client:04d}" for client in range(2000)], 1))
    cell = settings({"rule": "oort"}, clients_per_round=10)
    drawn_by, seen, fresh = selector(cell, many, 0, lambda asked: [np.ones(1)] * len(asked)), set(), []
    for number in range(1, 101):
        devices = drawn_by.draw(number).devices.tolist()
        drawn_by.learn(number, devices)
        fresh.append(len(set(devices) - seen))
        seen |= set(devices)
    # In the first round nobody is known; .9 .98^(t-1) of ten places then, down to 3.
    assert fresh[:3] == [10, 9, 9]
    assert fresh[30] == round(9 * 0.98**30)
    assert fresh[60:] == [3] * 40


def test_a_device_that_was_selected_often_enough_never_returns():
    losses, _ = lost_by(np.ones(8))
    drawn_by, times = oort(losses, retired_after=3), np.zeros(8, dtype=int)
    number = 0
    while times.min() < 3:
        number += 1
        devices = drawn_by.draw(number).devices
        drawn_by.learn(number, devices.tolist())
        times[devices] += 1
    assert times.tolist() == [3] * 8
    with pytest.raises(SettingError, match=f"after 3 selections each no device is left in round {number + 1}"):
        drawn_by.draw(number + 1)


def test_it_learns_nothing_of_devices_that_do_not_report():
    losses, asked = lost_by(np.ones(8))
    drawn_by = oort(losses)
    first = drawn_by.draw(1).devices
    drawn_by.learn(1, [int(first[0])])
    assert asked == [first[0]]
    again = [drawn_by.draw(number).devices.tolist() for number in range(2, 60)]
    # It stays among those that were never seen.
    assert any(int(first[1]) in devices for devices in again)
