import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.errors import PayloadError
from ossia.quantization.codes import pack_bits, pack_codes, unpack_bits, unpack_codes


@given(st.lists(st.integers(0, 3), max_size=70))
def test_codes_come_back(codes):
    codes = np.array(codes, np.uint8)
    packed = pack_codes(codes)
    assert len(packed) == -(-len(codes) // 4)
    assert np.array_equal(unpack_codes(packed, len(codes)), codes)


@given(packed=st.binary(max_size=64), channels=st.integers(0, 300))
def test_any_bytes_decode_canonically_or_are_refused(packed, channels):
    try:
        codes = unpack_codes(packed, channels)
    except PayloadError:
        return
    assert pack_codes(codes) == packed


@given(packed=st.binary(max_size=12), count=st.integers(0, 100))
def test_any_bits_decode_canonically_or_are_refused(packed, count):
    try:
        bits = unpack_bits(packed, count)
    except PayloadError:
        return
    assert pack_bits(bits) == packed


def test_the_error_says_what_was_expected_and_what_came():
    with pytest.raises(PayloadError, match="codes: expected 288 bytes for 1,152 channels, got 3"):
        unpack_codes(b"abc", 1152)
    with pytest.raises(PayloadError, match="zero padding after 3 channels"):
        unpack_codes(b"\xff", 3)
