"""A device and its releases: looked for at a pace, taken up between two clicks, told of by consent alone; and never back."""

from dataclasses import replace
from random import Random

import msgspec
import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, encode_payload
from ossia.adaptation.enrolment import device_of
from ossia.adaptation.payload import Header
from ossia.adaptation.request import Reply, encode_reply
from ossia.device.exchange import Answer, Request
from ossia.device.following import News, adopt, hear, look
from ossia.device.kept import BORNE, Following, exchanges, new_kept
from ossia.device.policy import always, never
from ossia.device.resident import Resident, open_resident
from ossia.device.settings import Settings
from ossia.errors import PayloadError

NOW, HOUR = 1_800_000_000, 3_600
SETTINGS = Settings(policy=always, allow_unsigned=True, guard=None, look_s=6 * HOUR)
NOTHING = np.zeros(0, np.int32)


def new(base: Base | None, settings: Settings = SETTINGS, **changed: object) -> Resident:
    return open_resident(msgspec.structs.replace(new_kept(bytes(range(32))), token="t0", **changed), base, settings)


def told(base: Base, resident: Resident, sequence: int) -> Answer:
    codes = np.random.default_rng(sequence).choice([1, 3], base.channels).astype(np.uint8)
    device = device_of(resident.kept.public)
    terms = {"device_id": device, "sequence": sequence, "issued": NOW, "expiry": NOW + 90 * HOUR}
    return Answer(200, encode_reply(Reply(encode_payload(base, Adaptation(codes=codes), **terms), NOTHING)))


def served(resident: Resident, base: Base, sequence: int) -> Resident:
    resident, request = resident.ask(NOW, Random(0))
    return resident.answer(request, told(base, resident, sequence), NOW, Random(0))[0]


def shown(resident: Resident) -> tuple[tuple[str, ...], tuple[float, ...], str]:
    found = resident.rank(None, 1000, NOW)
    return found.ids, found.scores, found.by


@pytest.fixture(scope="module")
def other(make_base) -> Base:
    """Another base, which numbers the same items the other way around."""
    made = make_base(seed=1)
    return replace(made, table=replace(made.table, ids=made.table.ids[::-1]))


@pytest.fixture
def clicked(base: Base) -> Resident:
    resident = new(base)
    for row in (4, 17, 30):
        resident = resident.observe(f"item-{row}")
    return resident


def test_a_device_looks_at_its_pace_and_each_look_is_in_the_log_before_it_leaves(clicked: Resident) -> None:
    resident, request = look(clicked, NOW, Random(0))
    assert [(record.at, record.kind) for record in exchanges(resident.kept.log)] == [(NOW, "look")]
    assert (request.body, request.token) == (b"", "")
    resident = hear(resident, News(True, received=5_000), NOW + 9, Random(0))
    assert list(exchanges(resident.kept.log))[-1].body_bytes == 5_000
    assert look(resident, NOW + 6 * HOUR, Random(0)) is None
    assert look(resident, NOW + 9 + 6 * HOUR, Random(0)) is not None
    assert look(resident, NOW - 400 * 24 * HOUR, Random(0)) is not None  # the clock was set right


def test_looks_that_bring_nothing_wait_longer_with_full_jitter_and_an_hour_at_most(clicked: Resident) -> None:
    waits: list[list[int]] = []
    for seed in range(8):
        resident, random, now = clicked, Random(seed), NOW
        waits.append([])
        for _ in range(14):
            resident, _ = look(resident, now, random)
            resident = hear(resident, News(False, faults=("missing: nobody",)), now, random)
            waits[-1].append(resident.kept.following.not_before - now)
            assert look(resident, now + waits[-1][-1] - 1, random) is None or not waits[-1][-1]
            now += waits[-1][-1]
    assert max(max(each) for each in waits) <= HOUR
    assert len({tuple(each) for each in waits}) == 8
    assert np.mean([each[-1] for each in waits]) > 10 * np.mean([each[1] for each in waits])


def test_a_new_base_takes_the_history_along_by_its_ids_and_leaves_payloads_behind(
    clicked: Resident, base: Base, other: Base
) -> None:
    personal = served(clicked, base, 1)
    assert shown(personal)[2] == "payload 1"
    moved = hear(personal, News(True, 2, other), NOW, Random(0))
    assert moved.kept.history == personal.kept.history
    assert [other.table.ids[row] for row in moved.session.history] == ["item-4", "item-17", "item-30"]
    assert (moved.kept.payloads, moved.kept.highest, moved.kept.following.release) == ((), 1, 2)
    fresh = new(other, history=personal.kept.history)
    assert shown(moved) == shown(fresh)
    late, request = moved.ask(NOW, Random(0))  # at once, though a payload came a moment ago
    after, receipt = late.answer(request, told(base, late, 2), NOW, Random(0))
    assert receipt.refusal == "another_base"
    assert shown(after) == shown(moved)


def test_what_is_not_ahead_of_the_release_in_force_is_no_news(base: Base, other: Base, clicked: Resident) -> None:
    second = hear(clicked, News(True, 2, other), NOW, Random(0))
    back = hear(second, News(True, 1, base), NOW, Random(0))
    assert back.session is second.session
    assert back.kept.following.release == 2


def test_a_look_that_brings_nothing_changes_no_ranking(clicked: Resident, base: Base) -> None:
    personal = served(clicked, base, 1)
    for news in (News(True), News(False, faults=("forged: expected more",)), News(True, 0, None, None, 9, 3)):
        assert hear(personal, news, NOW, Random(0)).session is personal.session


def test_a_device_without_a_base_looks_at_once_and_ranks_with_what_came(base: Base) -> None:
    empty = new(None, following=Following(looked=NOW - 1))
    resident, _ = look(empty, NOW, Random(0))
    moved = hear(resident, News(True, 1, base), NOW, Random(0))
    assert moved.observe("item-4").rank(None, 5, NOW).by == "base"


def test_a_revocation_takes_the_payloads_of_its_key_along(clicked: Resident, base: Base) -> None:
    def verify(header: Header, _message: bytes, _signature: bytes) -> None:
        raise PayloadError("signature: revoked", "revoked_key")

    settings = replace(SETTINGS, verify=lambda *_: None, allow_unsigned=False)
    resident, request = replace(clicked, settings=settings), Request("ask", "POST", "/v1/payload")
    resident = open_resident(resident.kept, base, settings)
    terms = {"sequence": 1, "issued": NOW, "expiry": NOW + 9, "key_id": 7, "sign": lambda _: bytes(64)}
    payload = encode_payload(base, Adaptation(codes=np.full(base.channels, 2, np.uint8)), **terms)
    resident, receipt = resident.answer(request, Answer(200, encode_reply(Reply(payload, NOTHING))), NOW, Random(0))
    assert receipt.accepted
    after = hear(resident, News(True, verify=verify), NOW, Random(0))
    assert (after.kept.payloads, shown(after)[2]) == ((), "base")
    assert after.ask(NOW, Random(0)) is not None


def test_a_verdict_is_told_once_and_by_consent_alone(base: Base) -> None:
    for settings, expected in ((SETTINGS, []), (replace(SETTINGS, tells=True), ["report"])):
        resident = new(base, replace(settings, policy=never), following=Following(release=7))
        kinds = []
        for row in range(3 * BORNE):
            resident = resident.observe(f"item-{row}")
            found = resident.ask(NOW, Random(0))
            if found is not None:
                kinds.append(found[1].kind)
                assert msgspec.json.decode(found[1].body) == {"release": 7, "worse": False}
                resident = found[0].answer(found[1], Answer(200), NOW, Random(0))[0]
        assert kinds == expected


def test_harm_and_a_release_that_can_not_be_loaded_are_told_and_a_silent_service_is_told_again(base: Base) -> None:
    resident = new(base, replace(SETTINGS, tells=True, policy=never), following=Following(release=7, unfit=8))
    resident = replace(resident, kept=msgspec.structs.replace(resident.kept, following=Following(7, unfit=8, worse=True)))
    heard = []
    now = NOW
    for answer in (Answer(0), Answer(200), Answer(503), Answer(400), Answer(200)):
        found = resident.ask(now, Random(0))
        if found is None:
            break
        heard.append((*msgspec.json.decode(found[1].body).values(), answer.status))
        resident = found[0].answer(found[1], answer, now, Random(0))[0]
        now += 2 * HOUR
    assert heard == [(8, True, 0), (8, True, 200), (7, True, 503), (7, True, 400)]


def test_a_device_whose_power_went_between_disk_and_session_goes_on_with_the_release_on_the_disk(clicked: Resident) -> None:
    kept = msgspec.structs.replace(clicked.kept, following=Following(3, NOW, clicks=5, worse=True, told=((3, True),)))
    assert adopt(kept, 3) is kept
    assert adopt(kept, 4).following == Following(4, NOW, told=((3, True),))
