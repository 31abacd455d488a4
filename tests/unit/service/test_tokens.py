"""Who asks: a key is shown once, a token from then on; both are refused in every other form."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ossia.errors import UsageError
from ossia.service.faults import RequestError
from ossia.service.tokens import TOLERANCE_S, Tokens, check_enrolment, device_of, enrolment_message

NOW = 1_800_000_000
ME = bytes(range(16))
TOKENS = Tokens(bytes(32), life_s=100)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def test_a_token_names_its_device_until_it_runs_out() -> None:
    token = TOKENS.make(ME, NOW)
    assert len(token) == 72
    assert TOKENS.read(token, NOW) == TOKENS.read(token, NOW + 99) == ME
    with pytest.raises(RequestError, match="ran out"):
        TOKENS.read(token, NOW + 100)


@given(at=st.integers(0, 71), digit=st.sampled_from("0123456789abcdef"))
def test_a_token_with_another_digit_is_none(at: int, digit: str) -> None:
    token = TOKENS.make(ME, NOW)
    changed = token[:at] + digit + token[at + 1 :]
    if changed != token:
        with pytest.raises(RequestError, match="another; enroll"):
            TOKENS.read(changed, NOW)


@given(st.text(max_size=80))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(RequestError):
        TOKENS.read(text, NOW)


def test_a_token_of_another_service_is_none() -> None:
    with pytest.raises(RequestError):
        TOKENS.read(Tokens(bytes([1] * 32)).make(ME, NOW), NOW)


def test_a_device_is_its_keys_and_enrolls_with_it() -> None:
    signature = KEY.sign(enrolment_message(PUBLIC, NOW))
    for clock in (NOW - TOLERANCE_S, NOW, NOW + TOLERANCE_S):
        assert check_enrolment(PUBLIC, NOW, signature, clock) == device_of(PUBLIC)


@pytest.mark.parametrize(
    ("public", "at", "signed", "fault"),
    [
        (PUBLIC, NOW - TOLERANCE_S - 1, NOW - TOLERANCE_S - 1, UsageError),
        (PUBLIC, NOW + TOLERANCE_S + 1, NOW + TOLERANCE_S + 1, UsageError),
        (PUBLIC, NOW, NOW + 1, RequestError),
        (bytes(32), NOW, NOW, RequestError),
        (b"\xff" * 32, NOW, NOW, RequestError),
        (PUBLIC[:31], NOW, NOW, UsageError),
    ],
)
def test_an_enrolment_that_does_not_hold_is_refused(public: bytes, at: int, signed: int, fault: type[Exception]) -> None:
    with pytest.raises(fault, match="enrolment: expected"):
        check_enrolment(public, at, KEY.sign(enrolment_message(public, signed)), NOW)
