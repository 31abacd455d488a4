"""A session's rules: what is wanted is put in force, and whatever is wrong changes nothing."""

import struct
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, Dense, Header, costs, encode_payload, lower, make_profile
from ossia.adaptation.lower import floor
from ossia.device import Session, open_session
from ossia.device.runtimes import RUNTIMES, choose_runtime
from ossia.device.session import CLOCK_TOLERANCE
from ossia.errors import BudgetError, PayloadError, UsageError
from ossia.types import ABSENT, Budget, Candidates

NOW, DAY = 1_800_000_000, 86_400
ME, YOU = bytes(range(16)), bytes(range(1, 17))
HISTORY = np.array([4, 17, 4, 30], np.int32)
OFFSETS = {"sections": 6, "base": 12, "table": 28, "device": 44, "sequence": 60, "issued": 68, "expiry": 72, "key": 76}


def personal(base: Base, seed: int = 0) -> Adaptation:
    """Draw codes and rows that change every ranking: widths 2 and 8, and about half of the rows."""
    random = np.random.default_rng(seed)
    codes, rows = random.choice([1, 3], base.channels), random.choice([0, 3], len(base.table))
    return Adaptation(codes=codes.astype(np.uint8), rows=rows.astype(np.uint8))


def payload(base: Base, adaptation: Adaptation | None = None, **header: object) -> bytes:
    fields = {"device_id": ME, "sequence": 7, "issued": NOW - 10, "expiry": NOW + DAY} | header
    return encode_payload(base, personal(base) if adaptation is None else adaptation, **fields)  # type: ignore[arg-type]


def open_mine(base: Base, **settings: object) -> Session:
    return open_session(base, ME, **{"history": HISTORY, "allow_unsigned": True} | settings)  # type: ignore[arg-type]


def shown(session: Session, now: int = NOW) -> tuple[bytes, bytes]:
    """Rank the whole catalog; two sessions that show the same bytes rank alike, to the last digit."""
    ranking = session.rank(Candidates(np.arange(-1, len(session.base.table) + 1)), None, now)
    return ranking.items.tobytes(), ranking.scores.tobytes()


@pytest.fixture(scope="module")
def opened(base: Base) -> Session:
    """A session with a payload in force: the one that bad payloads must not disturb."""
    session, receipt = open_mine(base).receive(payload(base, sequence=5), NOW)
    assert receipt.accepted
    return session


# What is wanted


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_an_accepted_payload_ranks_as_its_adaptation_does(base: Base, runtime: str) -> None:
    before = open_mine(base, runtime=runtime)
    after, receipt = before.receive(payload(base), NOW)
    assert (receipt.accepted, receipt.reason, after.highest) == (True, "", 7)
    candidates = Candidates(np.arange(len(base.table)))
    expected = RUNTIMES[runtime](base, personal(base)).scores(HISTORY, candidates)
    ranking = after.rank(candidates, None, NOW)
    assert (ranking.scores == np.sort(expected)[::-1]).all()
    assert shown(after) != shown(before)


def test_a_payload_for_any_device_is_for_this_one_too(base: Base) -> None:
    assert open_mine(base).receive(payload(base, device_id=bytes(16)), NOW)[1].accepted


def test_receiving_leaves_the_old_session_as_it_was(base: Base) -> None:
    before = open_mine(base)
    first = shown(before)
    before.receive(payload(base), NOW)
    assert (before.own, before.highest, shown(before)) == (None, 0, first)


def test_a_newer_payload_takes_the_place_of_the_older(base: Base, opened: Session) -> None:
    after, receipt = opened.receive(payload(base, personal(base, 1), sequence=6), NOW)
    assert receipt.accepted
    assert shown(after) != shown(opened)


@pytest.mark.parametrize("terms", [Adaptation(), Adaptation(gates=np.zeros(4, np.uint8))], ids=["nothing", "all gates off"])
def test_the_smallest_and_the_barest_adaptations_rank(base: Base, terms: Adaptation) -> None:
    session, receipt = open_mine(base).receive(payload(base, terms), NOW)
    assert receipt.accepted
    assert (shown(session) == shown(open_mine(base))) == (terms.gates is None)


def test_a_device_that_holds_no_rows_lists_its_own_items_then_the_rest_as_given(base: Base) -> None:
    session, receipt = open_mine(base).receive(payload(base, Adaptation(rows=np.zeros(len(base.table), np.uint8))), NOW)
    assert receipt.accepted
    ranking = session.rank(Candidates(np.array([9, 30, 8, ABSENT, 17, 7])), None, NOW)
    assert sorted(ranking.items[:2].tolist()) == [17, 30]
    assert ranking.items[2:].tolist() == [9, 8, ABSENT, 7]


def test_when_everything_is_minus_infinity_the_order_given_stands(base: Base) -> None:
    session, _ = open_mine(base).receive(payload(base, Adaptation(rows=np.zeros(len(base.table), np.uint8))), NOW)
    assert session.rank(Candidates(np.array([9, 8, 11])), 2, NOW).items.tolist() == [9, 8]


# What is refused


def edited(data: bytes, field: str, value: bytes) -> bytes:
    start = OFFSETS[field]
    return data[:start] + value + data[start + len(value) :]


REFUSED: dict[str, tuple[str, Callable[[Base], bytes]]] = {
    "nothing": ("payload: expected at least 80 bytes", lambda base: b""),
    "truncated": ("payload: expected", lambda base: payload(base)[:-1]),
    "too long": ("payload: expected", lambda base: payload(base) + b"\0"),
    "other magic": ("header: expected", lambda base: b"X" + payload(base)[1:]),
    "other base": ("base: expected", lambda base: edited(payload(base), "base", bytes(16))),
    "other table": ("table: expected", lambda base: edited(payload(base), "table", bytes(16))),
    "other device": ("device: expected", lambda base: payload(base, device_id=YOU)),
    "expired": ("expiry: expected a time after", lambda base: payload(base, expiry=NOW)),
    "expiry before issue": ("expiry: expected", lambda base: edited(payload(base), "expiry", struct.pack("<I", NOW - 11))),
    "future": ("issued: expected at most", lambda base: payload(base, issued=NOW + CLOCK_TOLERANCE + 1)),
    "replay": ("sequence: expected above 5, got 5", lambda base: payload(base, sequence=5)),
    "late": ("sequence: expected above 5, got 4", lambda base: payload(base, sequence=4)),
    "sequence zero": ("sequence: expected above 5, got 0", lambda base: payload(base, sequence=0)),
    "no such row bytes": ("table: expected the digest", lambda base: payload(base)[:-1] + bytes([payload(base)[-1] ^ 1])),
    "signed by a stranger": ("signature", lambda base: payload(base, sign=lambda message: bytes(64))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named_and_changes_nothing(base: Base, opened: Session, case: str) -> None:
    reason, make = REFUSED[case]
    before = shown(opened)
    after, receipt = opened.receive(make(base), NOW)
    assert not receipt.accepted
    assert receipt.reason.startswith(reason)
    assert after is opened
    assert shown(after) == before


def test_unsigned_is_refused_unless_the_app_asks_for_it(base: Base) -> None:
    after, receipt = open_mine(base, allow_unsigned=False).receive(payload(base), NOW)
    assert (receipt.accepted, after.highest) == (False, 0)
    assert receipt.reason.startswith("signature: expected a signed payload")


@pytest.mark.parametrize("holds", [True, False])
def test_a_signature_is_for_the_verifier_to_judge(base: Base, holds: bool) -> None:
    asked: list[int] = []

    def verify(header: Header, message: bytes, signature: bytes) -> None:
        asked.append(header.key_id)
        if not (holds and message == data[:-64] and signature == b"s" * 64):
            raise PayloadError("signature: expected another", "forged")

    data = payload(base, sign=lambda message: b"s" * 64, key_id=3)
    _, receipt = open_mine(base, allow_unsigned=False, verify=verify).receive(data, NOW)
    assert (receipt.accepted, asked) == (holds, [3])


@pytest.mark.parametrize(
    ("late", "accepted"), [(-CLOCK_TOLERANCE, True), (-CLOCK_TOLERANCE - 1, False), (DAY - 1, True), (DAY, False)]
)
def test_a_payload_is_received_from_its_issue_less_the_tolerance_until_its_expiry(
    base: Base, late: int, accepted: bool
) -> None:
    data = payload(base, issued=NOW, expiry=NOW + DAY)
    assert open_mine(base).receive(data, NOW + late)[1].accepted is accepted


def test_the_same_bytes_twice_are_a_replay(base: Base) -> None:
    data = payload(base)
    once, first = open_mine(base).receive(data, NOW)
    twice, second = once.receive(data, NOW)
    assert (first.accepted, second.accepted) == (True, False)
    assert twice is once


def test_a_refused_payload_does_not_raise_the_highest_sequence(base: Base, opened: Session) -> None:
    after, _ = opened.receive(payload(base, sequence=2**64 - 1, device_id=YOU), NOW)
    assert after.receive(payload(base, sequence=6), NOW)[1].accepted


# Time


def test_when_a_payload_runs_out_the_base_ranks_again(base: Base) -> None:
    plain = open_mine(base)
    session, _ = plain.receive(payload(base, expiry=NOW + DAY), NOW)
    assert shown(session, NOW + DAY - 1) == shown(session, NOW) != shown(plain)
    assert shown(session, NOW + DAY) == shown(plain)


def test_an_expired_payload_still_counts_for_replays(base: Base) -> None:
    session, _ = open_mine(base).receive(payload(base, expiry=NOW + 10, sequence=9), NOW)
    _, receipt = session.receive(payload(base, sequence=8), NOW + 20)
    assert receipt.reason.startswith("sequence")


def test_after_a_restart_the_kept_bytes_are_received_again(base: Base) -> None:
    kept = payload(base)
    session, _ = open_mine(base).receive(kept, NOW)
    again, receipt = open_mine(base, counts={0: session.highest - 1}).receive(kept, NOW + 60)
    assert receipt.accepted
    assert shown(again) == shown(session)
    assert not again.receive(payload(base, sequence=session.highest), NOW)[1].accepted


# Hostile bytes


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=400))
def test_random_bytes_never_raise_and_never_change_a_session(opened: Session, data: bytes) -> None:
    after, receipt = opened.receive(data, NOW)
    assert after is opened
    assert not receipt.accepted
    assert receipt.reason


@settings(deadline=None, max_examples=200)
@given(position=st.integers(0, 10**6), value=st.integers(1, 255), cut=st.integers(0, 40), tail=st.binary(max_size=8))
def test_a_mutated_payload_is_refused_or_fully_valid(
    base: Base, opened: Session, position: int, value: int, cut: int, tail: bytes
) -> None:
    whole = bytearray(payload(base))
    whole[position % len(whole)] ^= value
    data = bytes(whole[: len(whole) - cut]) + tail
    before = shown(opened)
    after, receipt = opened.receive(data, NOW)
    if receipt.accepted:  # such as one code that became another
        assert after.highest > opened.highest
        assert after.own is not None
        header, terms = after.header, after.own.adaptation
        assert header is not None
        fields = {name: getattr(header, name) for name in ("device_id", "sequence", "issued", "expiry", "key_id")}
        assert encode_payload(base, terms, **fields) == data
        shown(after)
    else:
        assert after is opened
    assert shown(opened) == before


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_weights_beyond_all_measure_still_give_a_list_of_all_candidates(base: Base, runtime: str) -> None:
    random = np.random.default_rng(0)
    huge = tuple(
        Dense(slot.name, random.choice([-65_000, 65_000], (slot.channels, slot.inputs)).astype(np.float16))
        for slot in base.manifest.slots
    )
    session, receipt = open_mine(base, runtime=runtime).receive(payload(base, Adaptation(deltas=huge)), NOW)
    assert receipt.accepted
    ranking = session.rank(Candidates(np.arange(10)), None, NOW)
    assert sorted(ranking.items.tolist()) == list(range(10))
    assert not np.isnan(ranking.scores).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_vectors_beyond_all_measure_rank_last(base: Base, runtime: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    vectors[0], vectors[2] = np.nan, np.finfo(np.float32).max * np.resize([1, -1], 8)
    ranking = open_mine(base, runtime=runtime).rank(Candidates(np.arange(4), vectors), None, NOW)
    assert ranking.scores[-1] == -np.inf
    assert ranking.items[-1] in (0, 2)
    assert not np.isnan(ranking.scores).any()


# History and profile


def test_a_session_keeps_the_newest_known_items_and_no_more(base: Base) -> None:
    session, length = open_session(base), base.manifest.shape["length"]
    for item in [*range(20), ABSENT, len(base.table), 2**70, -(2**70)]:
        session = session.observe(item)
    assert session.history.tolist() == list(range(20 - length, 20))
    assert session.history.dtype == np.int32


@settings(deadline=None, max_examples=30)
@given(items=st.lists(st.integers(-3, 45), max_size=20))
def test_observing_one_by_one_is_opening_with_the_whole(base: Base, items: list[int]) -> None:
    session = open_session(base)
    for item in items:
        session = session.observe(item)
    at_once = open_session(base, history=np.array(items, np.int64))
    assert session.history.tolist() == at_once.history.tolist()


def test_observing_keeps_the_folded_weights(opened: Session) -> None:
    assert opened.own is not None
    ranker = opened.own.ranker
    assert opened.observe(3).in_force(NOW).ranker is ranker


def test_a_longer_history_than_the_model_reads_ranks_like_its_newest_part(base: Base) -> None:
    long, length = np.random.default_rng(0).integers(0, len(base.table), 1001), base.manifest.shape["length"]
    assert shown(open_mine(base, history=long)) == shown(open_mine(base, history=long[-length:]))


def test_a_new_user_is_ranked_by_popularity_and_sends_zeros(base: Base) -> None:
    session = open_session(base, allow_unsigned=True)
    items = session.rank(Candidates(np.arange(len(base.table))), None, NOW).items
    assert items.tolist() == base.table.popularity.tolist()
    profile = session.profile()
    assert (profile.scale, profile.values.any()) == (0, False)


def test_the_profile_is_the_bases_whatever_is_in_force(base: Base, opened: Session) -> None:
    state = choose_runtime("default")(base, Adaptation()).state(HISTORY)
    expected = make_profile(state, base.manifest.profile_clip)
    for session in (open_mine(base), opened):
        assert session.profile().values.tolist() == expected.values.tolist()
        assert session.profile().scale == expected.scale


def test_the_profile_is_clipped(base: Base) -> None:
    tight = replace(base, manifest=msgspec.structs.replace(base.manifest, profile_clip=0.25))
    assert np.abs(open_session(tight, history=HISTORY).profile().state).max() == pytest.approx(0.25)


# The app's mistakes


def test_a_runtime_that_is_not_there_is_named(base: Base) -> None:
    with pytest.raises(UsageError, match=r"runtime: expected one of numpy, numpy_int8.*, got 'cuda'"):
        open_session(base, runtime="cuda")


def test_a_device_id_has_16_bytes(base: Base) -> None:
    with pytest.raises(UsageError, match="device id: expected 16 bytes, got 3"):
        open_session(base, b"abc")


def test_what_an_app_forbids_is_not_shown_and_what_it_was_is_remembered(opened: Session) -> None:
    everything = Candidates(np.arange(len(opened.base.table)))
    best = opened.rank(everything, None, NOW).items
    assert opened.rank(everything, 3, NOW, block=best[:2]).items.tolist() == best[2:5].tolist()
    assert set(opened.rank(everything, None, NOW, allow=best[4:8], block=best[5:6]).items.tolist()) == set(
        best[[4, 6, 7]].tolist()
    )
    assert opened.rank(everything, 3, NOW).items.tolist() == best[:3].tolist()  # the next call knows nothing of it


# A budget of its own


def test_the_same_bytes_rank_as_less_on_a_device_that_lowered_its_budget(base: Base) -> None:
    data, sent = payload(base), personal(base)
    budget = Budget(weight_bytes=(costs(base, sent).weight_bytes + costs(base, floor(base)).weight_bytes) // 2)
    less = lower(base, sent, budget)
    assert (less.codes < sent.codes).any()
    wide, _ = open_mine(base).receive(data, NOW)
    narrow, receipt = open_mine(base, budget=budget).receive(data, NOW)
    other, _ = open_mine(base).receive(payload(base, less), NOW)
    assert receipt.accepted
    assert shown(narrow) == shown(other) != shown(wide)
    assert narrow.own is not None
    assert narrow.own.adaptation.codes is not None
    assert (narrow.own.adaptation.codes == sent.codes).all()  # what is said to hold, and kept, is what was sent
    assert shown(open_mine(base, budget=budget).resume([data])) == shown(other)
    assert shown(open_mine(base).resume([narrow.payloads[0].data])) == shown(wide)  # and nothing is lost by it
    assert np.array_equal(narrow.profile().values, wide.profile().values)


def test_a_budget_below_every_payload_is_refused_when_a_session_opens(base: Base) -> None:
    with pytest.raises(BudgetError, match="weight_bytes: expected at least"):
        open_mine(base, budget=Budget(weight_bytes=1))
