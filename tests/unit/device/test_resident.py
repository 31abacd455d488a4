"""A device that lives for years: what is asked, what leaves, what is kept, and what ranks when something is gone."""

from dataclasses import replace
from functools import partial
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, costs, encode_payload
from ossia.adaptation.enrolment import device_of, enrolment_message
from ossia.adaptation.held_rows import decode_held, missing_rows
from ossia.adaptation.lower import floor
from ossia.adaptation.request import Reply, decode_ask, encode_reply
from ossia.device.exchange import NO_ANSWER, Answer, Request
from ossia.device.kept import Exchange, Kept, exchanges, new_kept
from ossia.device.policy import always, never, on_drift, periodic
from ossia.device.resident import Resident, open_resident
from ossia.device.settings import Settings
from ossia.device.shown import POPULAR
from ossia.types import Budget

NOW, DAY = 1_800_000_000, 86_400
SETTINGS = Settings(policy=always, allow_unsigned=True, guard=None)
NOTHING = np.zeros(0, np.int32)


def new(base: Base | None, settings: Settings = SETTINGS, **changed: object) -> Resident:
    kept = msgspec.structs.replace(new_kept(bytes(range(32))), **changed)
    return open_resident(kept, base, settings)


def personal(base: Base, seed: int = 0) -> Adaptation:
    random = np.random.default_rng(seed)
    codes, rows = random.choice([1, 3], base.channels), random.choice([0, 3], len(base.table))
    return Adaptation(codes=codes.astype(np.uint8), rows=rows.astype(np.uint8))


def served(base: Base, kept: Kept, sequence: int, seed: int = 0, *, rows: bytes = b"", days: int = 30) -> Answer:
    terms = {"device_id": device_of(kept.public), "sequence": sequence, "issued": NOW, "expiry": NOW + days * DAY}
    payload = encode_payload(base, personal(base, seed), **terms)
    return Answer(200, encode_reply(Reply(payload, NOTHING, rows)))


def asked(resident: Resident, now: int = NOW) -> tuple[Resident, Request]:
    found = resident.ask(now, Random(0))
    assert found is not None
    return found


def settle(resident: Resident, answer: Answer, now: int = NOW) -> Resident:
    """Ask, and be answered."""
    resident, request = asked(resident, now)
    return resident.answer(request, answer, now, Random(0))[0]


def shown(resident: Resident, now: int = NOW) -> tuple[tuple[str, ...], tuple[float, ...]]:
    found = resident.rank(None, 1000, now)
    return found.ids, found.scores


@pytest.fixture
def clicked(base: Base) -> Resident:
    resident = new(base, token="t0")
    for row in (4, 17, 30):
        resident = resident.observe(f"item-{row}")
    return resident


# What leaves


def test_the_first_request_shows_the_key_and_the_next_one_the_profile(base: Base) -> None:
    resident, request = asked(new(base).observe("item-3"))
    document = msgspec.json.decode(request.body)
    assert (request.kind, request.path, request.token) == ("enroll", "/v1/devices", "")
    assert (document["public"], document["at"]) == (resident.kept.public.hex(), NOW)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    message = enrolment_message(resident.kept.public, NOW)
    Ed25519PublicKey.from_public_bytes(resident.kept.public).verify(bytes.fromhex(document["signature"]), message)
    token = msgspec.json.encode({"device": device_of(resident.kept.public).hex(), "token": "ab12", "sequence": 0})
    resident, receipt = resident.answer(request, Answer(200, token), NOW, Random(0))
    assert receipt.accepted
    resident, request = asked(resident)
    ask = decode_ask(request.body, base.manifest.shape["dim"])
    assert (request.kind, request.token, ask.base_id) == ("ask", "ab12", base.id[:16])
    assert ask.profile.values.tolist() == resident.session.profile().values.tolist()


def test_a_token_for_another_device_is_not_taken(base: Base) -> None:
    resident, request = asked(new(base))
    told = msgspec.json.encode({"device": "00" * 16, "token": "ab12"})
    resident, receipt = resident.answer(request, Answer(200, told), NOW, Random(0))
    assert (receipt.accepted, resident.kept.token) == (False, "")


def test_every_request_is_in_the_log_before_it_leaves_with_what_it_disclosed(clicked: Resident) -> None:
    after, request = asked(clicked)
    [record] = exchanges(after.kept.log)
    assert record == request.disclosed(NOW)
    assert (record.at, record.kind, record.body_bytes) == (NOW, "ask", len(request.body))
    assert record.norm == pytest.approx(float(np.linalg.norm(clicked.session.profile().state)), rel=1e-6)
    assert after.ask(NOW, Random(0)) is None  # while one is under way there is no second one


def test_two_histories_that_share_a_profile_send_the_same_bytes(base: Base) -> None:
    """Nothing but the profile speaks of the history: with equal profiles the requests are equal."""

    class Flat:
        def state(self, history):
            return np.ones(base.manifest.shape["dim"], np.float32)

        def scores(self, history, candidates):
            return np.zeros(len(candidates), np.float32)

    settings = replace(SETTINGS, runtime=lambda base, adaptation: Flat())
    bodies = {asked(new(base, settings, token="t0").observe(item))[1] for item in ("item-3", "item-4", "item-5")}
    assert len(bodies) == 1


def test_noise_moves_the_profile_and_stays_within_the_clip(base: Base, clicked: Resident) -> None:
    noisy = open_resident(clicked.kept, base, replace(SETTINGS, noise=0.5))
    dim, clip = base.manifest.shape["dim"], base.manifest.profile_clip
    states = [decode_ask(noisy.ask(NOW, Random(seed))[1].body, dim).profile.state for seed in (1, 2)]
    plain = decode_ask(asked(clicked)[1].body, dim).profile.state
    assert max(np.abs(state).max() for state in states) <= clip * 1.001
    assert min(np.abs(states[0] - states[1]).max(), np.abs(states[0] - plain).max()) > 0.05 * clip


# What comes back


def test_a_payload_is_kept_with_its_sequence_and_ranks_again_after_a_restart(base: Base, clicked: Resident) -> None:
    after = settle(clicked, served(base, clicked.kept, 5))
    assert (after.kept.highest, len(after.kept.payloads), after.kept.asking.served) == (5, 1, NOW)
    assert after.rank(None, 3, NOW).by == "payload 5"
    assert shown(after) != shown(clicked)
    again = open_resident(after.kept, base, SETTINGS)
    assert (shown(again), again.rank(None, 3, NOW).by) == (shown(after), "payload 5")


def test_a_restart_while_the_clock_is_wrong_loses_no_payload(base: Base, clicked: Resident) -> None:
    after = settle(clicked, served(base, clicked.kept, 5))
    again = open_resident(after.kept, base, SETTINGS)  # no clock in it at all
    assert again.rank(None, 3, NOW + 400 * DAY).by == "base"
    assert again.rank(None, 3, NOW).by == "payload 5"


def test_the_older_payload_takes_over_when_the_newer_runs_out_and_then_the_base(base: Base, clicked: Resident) -> None:
    first = settle(clicked, served(base, clicked.kept, 5, days=30))
    second = settle(first.observe("item-9"), served(base, clicked.kept, 6, seed=1, days=10))
    third = settle(second.observe("item-8"), served(base, clicked.kept, 7, seed=2, days=5))
    assert [third.rank(None, 3, NOW + days * DAY).by for days in (0, 5, 10)] == ["payload 7", "payload 6", "base"]
    assert [second.rank(None, 3, NOW + days * DAY).by for days in (0, 10, 30)] == ["payload 6", "payload 5", "base"]
    again = open_resident(second.kept, base, SETTINGS)
    assert shown(again, NOW + 10 * DAY) == shown(second, NOW + 10 * DAY)


def test_rows_are_kept_if_the_payload_vouches_for_them_and_not_otherwise(base: Base, clicked: Resident) -> None:
    true = base.table.row_bytes(personal(base).rows)
    wants = open_resident(clicked.kept, base, ROWS)
    for rows, kept in ((true, true), (true[:-1] + b"!", b""), (b"", b"")):
        after = settle(wants, served(base, clicked.kept, 5, rows=rows))
        assert [each.rows for each in after.kept.payloads] == [kept]
        assert after.rank(None, 3, NOW).by == "payload 5"
    assert settle(clicked, served(base, clicked.kept, 5, rows=b"unasked")).kept.payloads[0].rows == b""


ROWS = replace(SETTINGS, rows=True)


def test_a_refresh_says_what_is_here_and_is_sent_what_is_not(base: Base, clicked: Resident) -> None:
    old, new_ = personal(base, 0).rows, personal(base, 1).rows
    wants = open_resident(clicked.kept, base, ROWS)
    first = settle(wants, served(base, clicked.kept, 5, rows=base.table.row_bytes(old))).observe("item-9")
    resident, request = asked(first)
    held = decode_held(decode_ask(request.body, 8).held, len(base.table))
    assert np.array_equal(held, old)  # what the service itself has named, and nothing else
    sent = missing_rows(base.table, new_, held)
    after, receipt = resident.answer(request, served(base, clicked.kept, 6, seed=1, rows=sent), NOW, Random(0))
    assert (receipt.accepted, receipt.reason) == (True, "")
    assert after.kept.payloads[0].rows == base.table.row_bytes(new_)
    assert 0 < len(sent) < 0.7 * len(base.table.row_bytes(new_))
    again = open_resident(after.kept, base, ROWS).observe("item-8")
    assert np.array_equal(decode_held(decode_ask(asked(again)[1].body, 8).held, 40), new_)


@pytest.mark.parametrize("lie", ["a byte changed", "nothing", "everything", "a byte too much", "rows of another payload"])
def test_rows_that_do_not_come_out_right_are_asked_for_again_all_of_them_and_not_at_once(
    base: Base, clicked: Resident, lie: str
) -> None:
    old, new_ = personal(base, 0).rows, personal(base, 1).rows
    first = settle(open_resident(clicked.kept, base, ROWS), served(base, clicked.kept, 5, rows=base.table.row_bytes(old)))
    resident, request = asked(first.observe("item-9"))
    sent = missing_rows(base.table, new_, old)
    told = {
        "a byte changed": bytes([sent[0] ^ 1]) + sent[1:],
        "nothing": b"",
        "everything": base.table.row_bytes(new_),
        "a byte too much": sent + b"x",
        "rows of another payload": missing_rows(base.table, personal(base, 2).rows, old),
    }[lie]
    after, receipt = resident.answer(request, served(base, clicked.kept, 6, seed=1, rows=told), NOW, Random(1))
    assert (receipt.accepted, "asked for again" in receipt.reason) == (True, True)
    assert (after.rank(None, 3, NOW).by, after.kept.payloads[0].rows) == ("payload 6", b"")
    assert after.ask(NOW, Random(0)) is None
    assert decode_ask(asked(after, after.kept.asking.not_before)[1].body, 8).held == b""


def test_without_wanting_rows_nothing_is_said_of_them(base: Base, clicked: Resident) -> None:
    rows = base.table.row_bytes(personal(base).rows)
    first = settle(open_resident(clicked.kept, base, ROWS), served(base, clicked.kept, 5, rows=rows))
    plain = open_resident(first.kept, base, SETTINGS).observe("item-9")
    assert len(asked(plain)[1].body) == 52 + 8 + 4


BAD = {
    "nothing": NO_ANSWER,
    "overloaded": Answer(503, b'{"name": "overloaded", "error": "queue"}', 60),
    "a page of somebody else": Answer(200, b"<html>"),
    "a cut reply": Answer(200, b"\x50\0\0"),
    "a fault": Answer(500, b"\xff\xfe"),
    "another base": Answer(409, b'{"name": "another_base", "error": "base: expected"}'),
}


@pytest.mark.parametrize("case", BAD)
def test_whatever_comes_instead_changes_no_ranking_and_the_device_waits(base: Base, clicked: Resident, case: str) -> None:
    before = settle(clicked, served(base, clicked.kept, 5)).observe("item-8")
    after, request = asked(before)
    after, receipt = after.answer(request, BAD[case], NOW, Random(1))
    assert not receipt.accepted
    assert receipt.reason
    assert shown(after) == shown(before)
    assert (after.kept.highest, after.kept.payloads) == (5, before.kept.payloads)
    assert (after.kept.asking.failures, after.kept.asking.not_before >= NOW + BAD[case].retry_after_s) == (1, True)


@settings(deadline=None, max_examples=150)
@given(
    status=st.sampled_from([0, 200, 200, 401, 409, 500, 503]),
    body=st.binary(max_size=300),
    after=st.integers(0, 10**9),
    kind=st.sampled_from(["ask", "enroll", "erase"]),
)
def test_no_answer_at_all_raises_or_moves_a_ranking(base: Base, status: int, body: bytes, after: int, kind: str) -> None:
    before = new(base, token="t0").observe("item-4")
    resident, receipt = before.answer(Request(kind, "POST", "/"), Answer(status, body, after), NOW, Random(0))
    assert not receipt.accepted
    assert receipt.reason
    assert shown(resident) == shown(before)
    assert resident.kept.asking.not_before <= NOW + 2 * 3600


def test_waits_grow_up_to_the_cap_and_one_success_ends_them(base: Base, clicked: Resident) -> None:
    resident, now, waits = clicked, NOW, []
    for _ in range(20):
        resident = settle(resident, NO_ANSWER, now)
        waits.append(resident.kept.asking.not_before - now)
        now = resident.kept.asking.not_before
    assert max(waits) <= 3600
    assert max(waits[10:]) > 1200 > max(waits[:4])
    resident = settle(resident, served(base, clicked.kept, 5), now)
    assert (resident.kept.asking.failures, resident.kept.asking.not_before) == (0, 0)


def test_a_device_that_dies_of_its_ask_waits_all_the_same(clicked: Resident, base: Base) -> None:
    resident, _ = asked(clicked)
    resident = open_resident(resident.kept, base, SETTINGS)  # no answer, no goodbye
    assert resident.kept.asking.failures == 1
    again = resident.ask(resident.kept.asking.not_before, Random(1))
    assert again is not None
    assert again[0].kept.asking.failures == 2


def test_a_token_that_holds_no_longer_leads_to_a_new_enrolment(clicked: Resident) -> None:
    resident = settle(clicked, Answer(401, b'{"name": "unauthorized", "error": "token"}'))
    assert asked(resident, NOW + 3600)[1].kind == "enroll"


def test_a_clock_set_back_by_a_year_does_not_silence_a_device(clicked: Resident) -> None:
    resident = settle(clicked, NO_ANSWER, NOW + 400 * DAY)
    assert resident.ask(NOW, Random(0)) is not None


# Policies, with a real profile


def test_a_device_asks_when_its_user_turns_to_something_else(base: Base, clicked: Resident) -> None:
    resident = open_resident(clicked.kept, base, replace(SETTINGS, policy=partial(on_drift, least=0.05)))
    resident = settle(resident, served(base, clicked.kept, 5))
    assert resident.ask(NOW + DAY, Random(0)) is None
    for row in (1, 22, 9, 35, 12, 28):
        resident = resident.observe(f"item-{row}")
    assert resident.ask(NOW + DAY, Random(0)) is not None


def test_a_day_has_one_ask_of_a_daily_device(base: Base, clicked: Resident) -> None:
    resident = open_resident(clicked.kept, base, replace(SETTINGS, policy=partial(periodic, every_s=DAY)))
    resident = settle(resident, served(base, clicked.kept, 5))
    assert [resident.ask(NOW + later, Random(0)) is not None for later in (1, DAY - 1, DAY)] == [False, False, True]


def test_a_device_that_never_asks_never_does(base: Base) -> None:
    resident = new(base, replace(SETTINGS, policy=never))
    assert all(resident.observe(f"item-{row}").ask(NOW + row * DAY, Random(0)) is None for row in range(30))


# What ranks when something is gone


def test_without_a_base_what_is_popular_is_shown_and_nothing_is_lost(base: Base, clicked: Resident) -> None:
    before = settle(clicked, served(base, clicked.kept, 5))
    bare = open_resident(before.kept, None, SETTINGS)
    found = bare.rank(None, 3, NOW)
    popular = [base.table.ids[row] for row in base.table.popularity if row not in (4, 17, 30)]
    assert (list(found.ids), found.by) == (popular[:3], "popularity")
    least, most = base.table.ids[base.table.popularity[9]], base.table.ids[base.table.popularity[1]]
    assert bare.rank(["nobody", least, most], 5, NOW).ids == (most, least, "nobody")
    assert bare.ask(NOW + DAY, Random(0)) is None
    assert bare.observe("item-3") is bare
    assert shown(open_resident(bare.kept, base, SETTINGS)) == shown(before)


def test_another_base_keeps_the_history_by_its_ids_and_leaves_the_payloads(make_base, base: Base, clicked: Resident) -> None:
    before = settle(clicked, served(base, clicked.kept, 5))
    small = make_base(items=20, seed=3)
    moved = open_resident(before.kept, small, SETTINGS)
    assert moved.session.history.tolist() == [4, 17]  # item-30 is not in its catalog
    assert (moved.kept.history, moved.kept.payloads, moved.kept.highest) == (before.kept.history, (), 5)
    back = open_resident(moved.kept, base, SETTINGS)
    assert back.session.history.tolist() == [4, 17, 30]


def test_a_base_remembers_no_more_than_it_needs_for_bad_days(make_base) -> None:
    assert len(new(make_base(items=300, seed=1)).kept.popular) == POPULAR


def test_an_unknown_click_leaves_the_device_as_it_is(clicked: Resident) -> None:
    assert clicked.observe("nobody") is clicked


def test_the_newest_clicks_are_kept_and_no_more(base: Base) -> None:
    resident = new(base)
    for row in range(20):
        resident = resident.observe(f"item-{row}")
    assert resident.kept.history == tuple(f"item-{row}" for row in range(14, 20))
    assert resident.kept.asking.clicks == 20


def test_a_record_of_the_log_is_33_bytes(base: Base) -> None:
    assert len(Exchange(NOW, "ask", 120).pack()) == 33


def test_what_was_kept_is_folded_to_less_after_the_budget_was_lowered_and_a_floor_stops_nothing(
    base: Base, clicked: Resident
) -> None:
    whole = settle(clicked, served(base, clicked.kept, 1))
    less = replace(SETTINGS, budget=Budget(weight_bytes=costs(base, floor(base)).weight_bytes))
    lowered = open_resident(whole.kept, base, less)
    assert shown(lowered) != shown(whole)
    assert lowered.rank(None, 1, NOW).by == "payload 1"
    assert shown(open_resident(lowered.kept, base, SETTINGS)) == shown(whole)
    below = open_resident(whole.kept, base, replace(SETTINGS, budget=Budget(weight_bytes=1)))
    assert shown(below) == shown(whole)
