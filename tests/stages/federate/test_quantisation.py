import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.errors import SettingError
from stages.federate.quantisation import norm_before_rounding, quantise, restored
from stages.federate.settings import SecureAggregation

SETTINGS = [SecureAggregation(), SecureAggregation(clip=0.5, bits=8), SecureAggregation(clip=3.0, bits=3)]


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=20), st.sampled_from(SETTINGS))
@settings(deadline=None)
def test_a_value_is_clipped_and_off_by_at_most_half_a_step(values, secure):
    found = quantise(np.array(values), secure)
    near = np.clip(values, -secure.clip, secure.clip)
    assert np.abs(restored(found.words, secure) - near).max() <= secure.step / 2 * (1 + 1e-9)
    assert found.clipped == sum(abs(value) > secure.clip for value in values)


@pytest.mark.parametrize("secure", SETTINGS)
def test_zero_and_both_ends_are_exact(secure):
    ends = np.array([0.0, secure.clip, -secure.clip])
    assert restored(quantise(ends, secure).words, secure) == pytest.approx(ends, rel=1e-12)
    assert not quantise(np.zeros(3), secure).words.any()


@pytest.mark.parametrize("secure", SETTINGS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_most_clients_do_not_overflow_and_one_more_does(secure, sign):
    [word] = quantise(np.array([sign * secure.clip]), secure).words
    for clients, right in ((secure.most_clients, True), (secure.most_clients + 1, False)):
        # Adding so many words one by one takes long where they are short.
        total = np.array([int(word) * clients % 2**32], np.uint32)
        assert np.isclose(restored(total, secure)[0], sign * clients * secure.clip) == right


def test_flowers_defaults_leave_room_for_1024_clients():
    assert (SecureAggregation().most_clients, SecureAggregation().clip) == (1024, 8.0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(wrong):
    with pytest.raises(SettingError, match="a client's update is not finite"):
        quantise(np.array([1.0, wrong]), SecureAggregation())


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_a_norm_clipped_for_it_is_not_exceeded_by_rounding(seed):
    secure, size = SecureAggregation(clip=1.0, bits=8), 500
    norm = 0.2
    values = np.random.default_rng(seed).normal(size=size)
    values *= norm_before_rounding(norm, secure, size) / np.linalg.norm(values)
    assert np.linalg.norm(restored(quantise(values, secure).words, secure)) <= norm
    with pytest.raises(SettingError, match=r"rounding 500 values to 8 bits may add 0.088 to a norm clipped to 0.05"):
        norm_before_rounding(0.05, secure, size)
