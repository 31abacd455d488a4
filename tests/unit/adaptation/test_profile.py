import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ossia.adaptation import decode_profile, encode_profile, make_profile
from ossia.errors import PayloadError

STATES = hnp.arrays(np.float32, 8, elements=st.floats(-100, 100, width=32))


@given(STATES)
def test_a_profile_comes_back_and_is_within_half_a_step_of_the_clipped_state(state):
    profile = make_profile(state, clip=4.0)
    again = decode_profile(encode_profile(profile), 8)
    assert np.array_equal(again.state, profile.state)
    assert np.abs(profile.state - np.clip(state, -4, 4)).max() <= profile.scale * 0.5001 + 1e-12


def test_a_profile_of_sixty_four_values_is_68_bytes():
    assert len(encode_profile(make_profile(np.ones(64, np.float32), 4.0))) == 68


@given(st.binary(max_size=20))
def test_any_bytes_are_a_profile_in_its_one_spelling_or_refused(data):
    try:
        profile = decode_profile(data, 8)
    except PayloadError:
        return
    assert encode_profile(profile) == data


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -0.0])
def test_a_scale_that_is_no_size_is_refused(scale):
    with pytest.raises(PayloadError, match="scale"):
        decode_profile(bytes(8) + np.array(scale, "<f4").tobytes(), 8)
