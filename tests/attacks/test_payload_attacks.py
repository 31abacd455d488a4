"""A diary of what a hostile or broken sender may try; nothing but `PayloadError` ever comes out."""

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from documents import golden_payload, toy_adaptation, toy_base
from hypothesis import given
from hypothesis import strategies as st
from mutate import spelled_once

from ossia.adaptation import decode_payload, encode_payload
from ossia.adaptation.payload import HEADER
from ossia.adaptation.wire import Reader, decode_sorted, encode_sorted, encode_varints
from ossia.errors import PayloadError

BASE = toy_base()
GOLDEN = golden_payload()


def test_every_mutation_of_every_byte_decodes_canonically_or_is_refused():
    # In a process of its own, without the checks of every shape on every call: a tenth of the time.
    script = Path(__file__).with_name("mutate.py")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    accepted, refused = map(int, run.stdout.split())
    assert accepted + refused == 256 * len(GOLDEN)
    assert 0 < accepted < refused


def test_every_truncation_and_every_lengthening_is_refused():
    for length in range(len(GOLDEN)):
        assert not spelled_once(GOLDEN[:length])
    assert not spelled_once(GOLDEN + b"\0")
    assert not spelled_once(GOLDEN + bytes(64))


@given(st.binary(max_size=300))
def test_random_bytes_behind_a_right_header_are_refused_or_canonical(body):
    for present in range(16):
        header = bytearray(GOLDEN[:80])
        header[6] = present
        header[8:12] = struct.pack("<I", len(body))
        spelled_once(bytes(header) + body)


def with_body(body: bytes, present: int) -> bytes:
    header = list(HEADER.unpack(GOLDEN[:80]))
    header[3], header[4] = present, len(body)
    return HEADER.pack(*header) + body


@pytest.mark.parametrize(
    ("body", "present", "complaint"),
    [
        (b"\xff", 1, "zero padding after 3 bits"),
        (b"\x00\xfc", 2, "zero padding after 5 channels"),
        (bytes([4, 1, 1]), 4, "delta: expected kind"),
        (bytes([3, 0, 1]), 4, "delta: expected kind"),
        (bytes([3, 1, 1]), 4, "as many coordinates as the base's basis has"),
        (bytes([3, 2, 1]) + b"\x00\x7c" * 2, 4, "finite numbers"),
        (bytes([2, 0, 1]), 4, "delta: expected kind"),
        (bytes([2, 1, 0]), 4, "at least one slot"),
        (bytes([1, 0, 2]) + b"\xff\x7f" * 6, 4, "finite numbers"),
        (bytes([2, 255, 3]), 4, "delta a: expected 1,530 bytes"),
        (bytes([2]) + bytes(40), 8, "table: expected kind 1"),
        (bytes([1, 1, 6, 0, 0]) + bytes(32), 8, "rows below 6"),
        (bytes([1, 1, 2, 1, 2, 0]) + bytes(32), 8, "got row 2 twice"),
        (bytes([1, 0x81, 0x00, 2, 0, 0]) + bytes(32), 8, "shortest form"),
        (bytes([1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]) + bytes(40), 8, "numbers, got"),
        (bytes([1, 1, 2, 0, 0]) + bytes(32), 8, "digest of the rows at hand"),
        (b"\0", 0, "expected its end"),
    ],
)
def test_each_crooked_body_is_refused_by_name(body, present, complaint):
    with pytest.raises(PayloadError, match=complaint):
        decode_payload(BASE, with_body(body, present), allow_unsigned=True)


@pytest.mark.parametrize(
    ("at", "value", "complaint"),
    [(0, b"X", "OSSA"), (4, b"\2", "version 2"), (5, b"\2", "flags"), (6, b"\x1f", "sections"), (12, b"\xff", "base"),
     (28, b"\xff", "table"), (72, b"\0\0\0\0", "expiry"), (8, b"\xff", "by its header")],
)  # fmt: skip
def test_each_crooked_header_is_refused_by_name(at, value, complaint):
    with pytest.raises(PayloadError, match=complaint):
        decode_payload(BASE, GOLDEN[:at] + value + GOLDEN[at + len(value) :], allow_unsigned=True)


def test_an_unsigned_payload_is_accepted_only_where_the_caller_asks():
    with pytest.raises(PayloadError, match="unsigned"):
        decode_payload(BASE, GOLDEN)


def test_a_signature_must_hold_and_something_must_check_it():
    adaptation, header = toy_adaptation()
    signed = encode_payload(BASE, adaptation, **header, key_id=9, sign=lambda message: message[:32] + message[-32:])

    def verify(header, message, signature):
        if header.key_id != 9 or signature != message[:32] + message[-32:]:
            raise PayloadError("signature: expected one that holds", "forged")

    assert decode_payload(BASE, signed, verify=verify).header.key_id == 9
    with pytest.raises(PayloadError, match="no key is trusted here"):
        decode_payload(BASE, signed, allow_unsigned=True)
    with pytest.raises(PayloadError, match="expected one that holds"):
        decode_payload(BASE, signed[:-1] + b"\0", verify=verify)
    with pytest.raises(PayloadError, match="by its header"):
        decode_payload(BASE, signed[:5] + b"\0" + signed[6:], allow_unsigned=True, verify=verify)  # the flag struck off


def test_a_hostile_length_allocates_nothing():
    greedy = with_body(bytes([1]) + encode_varints(np.array([2**35 - 1])) + bytes(50), 8)
    tracemalloc.start()
    with pytest.raises(PayloadError):
        decode_payload(BASE, greedy, allow_unsigned=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


@given(st.sets(st.integers(0, 2**34), max_size=50))
def test_sorted_lists_come_back(rows):
    rows = np.array(sorted(rows), np.int64)
    reader = Reader(encode_sorted(rows))
    assert np.array_equal(decode_sorted(reader, 2**34 + 1, "rows"), rows)
    assert reader.left == 0
