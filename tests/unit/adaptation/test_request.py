"""Ask and reply: what is accepted has one spelling, everything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.adaptation import make_profile
from ossia.adaptation.request import MOST_CANDIDATES, Ask, Reply, decode_ask, decode_reply, encode_ask, encode_reply
from ossia.errors import PayloadError
from ossia.types import Budget

PROFILE = make_profile(np.arange(8, dtype=np.float32), 3.0)


def ask(**changes: object) -> Ask:
    fields = {"base_id": bytes(16), "table_id": b"t" * 16, "budget": Budget(weight_bytes=9), "profile": PROFILE} | changes
    return Ask(**fields)  # type: ignore[arg-type]


limit = st.none() | st.integers(1, 2**32 - 1)


@given(weights=limit, table=limit, download=limit, rows=st.booleans(), candidates=st.integers(0, MOST_CANDIDATES))
def test_an_ask_comes_back(weights, table, download, rows, candidates) -> None:
    budget = Budget(weight_bytes=weights, table_bytes=table, download_bytes=download)
    data = encode_ask(ask(budget=budget, rows=rows, candidates=candidates))
    assert len(data) == 52 + 8 + 4
    found = decode_ask(data, 8)
    assert (found.budget, found.rows, found.candidates) == (budget, rows, candidates)
    assert encode_ask(found) == data


@given(st.binary(min_size=60, max_size=76))
def test_any_bytes_are_an_ask_in_one_spelling_or_refused(data: bytes) -> None:
    for each in (data, b"OSSQ\x01\x00\x00\x00" + data[8:]):
        try:
            found = decode_ask(each, 8)
        except PayloadError:
            continue
        assert encode_ask(found) == each


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (encode_ask(ask())[:-1], "expected 64 … 64 bytes, got 63"),
        (b"X" + encode_ask(ask())[1:], "OSSQ"),
        (encode_ask(ask())[:5] + b"\2" + encode_ask(ask())[6:], "flags 0, 1 or 3"),
        (encode_ask(ask(candidates=MOST_CANDIDATES + 1)), "at most 1,000 candidates"),
        (encode_ask(ask())[:52] + b"\x80" + encode_ask(ask())[53:], "−127"),
    ],
)
def test_each_crooked_ask_is_refused_by_name(data: bytes, complaint: str) -> None:
    with pytest.raises(PayloadError, match=complaint):
        decode_ask(data, 8)


@given(st.binary(max_size=50), st.lists(st.integers(0, 2**31 - 1), max_size=9), st.binary(max_size=50))
def test_a_reply_comes_back_and_every_cut_is_refused(payload: bytes, candidates: list[int], rows: bytes) -> None:
    data = encode_reply(Reply(payload, np.array(candidates, np.int32), rows))
    found = decode_reply(data)
    assert (found.payload, found.candidates.tolist(), found.rows) == (payload, candidates, rows)
    for length in range(len(data)):
        with pytest.raises(PayloadError) as refused:
            decode_reply(data[:length])
        assert refused.value.refusal == "truncated"
    with pytest.raises(PayloadError):
        decode_reply(data + b"\0")
