"""The guard: a payload that ranks the user's own clicks worse than the base does is dropped, and no other one."""

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Dense, encode_payload
from ossia.device.guard import Guard, click_loss
from ossia.device.session import Session, open_session
from ossia.types import Candidates, History

NOW = 1_800_000_000
ITEMS = 64


class Fixed:
    """Scores items by a fixed order, best first; −inf for those left out."""

    def __init__(self, order: list[int], missing: tuple[int, ...] = ()) -> None:
        self._scores = np.full(ITEMS, -np.inf, np.float32)
        self._scores[order] = -np.arange(len(order), dtype=np.float32)
        self._scores[list(missing)] = -np.inf

    def scores(self, history: History, candidates: Candidates) -> np.ndarray:
        return self._scores[candidates.items]


ASCENDING, DESCENDING = Fixed(list(range(ITEMS))), Fixed(list(range(ITEMS))[::-1])
SOME = np.array([9])


@pytest.mark.parametrize(("click", "loss"), [(0, 6.0), (63, -6.0), (1, np.log2(63 / 2)), (31, np.log2(33 / 32))])
def test_a_loss_is_the_ratio_of_ranks_in_bits(click: int, loss: float) -> None:
    assert click_loss(DESCENDING, ASCENDING, ITEMS, SOME, click) == pytest.approx(loss)
    assert click_loss(ASCENDING, ASCENDING, ITEMS, SOME, click) == 0


def test_ties_count_against_the_one_that_has_them() -> None:
    flat = Fixed([])
    flat._scores[:] = 1
    assert click_loss(flat, ASCENDING, ITEMS, SOME, 0) == 6
    assert click_loss(ASCENDING, flat, ITEMS, SOME, 0) == -6


def test_a_click_that_one_of_them_cannot_score_is_not_judged_and_rows_left_out_do_not_push_others_up() -> None:
    small = Fixed(list(range(ITEMS)), missing=tuple(range(10)))
    assert click_loss(small, ASCENDING, ITEMS, SOME, 3) is None
    assert click_loss(small, ASCENDING, ITEMS, SOME, 40) == 0
    assert click_loss(small, ASCENDING, ITEMS, np.zeros(0, np.int32), 40) is None


def test_only_the_last_clicks_count_and_too_few_condemn_nobody() -> None:
    guard, evidence = Guard(clicks=4, least=3, margin=1.0), ()
    for _ in range(2):
        evidence = guard.remember(evidence, DESCENDING, ASCENDING, ITEMS, SOME, 0)
    assert not guard.condemns(evidence)
    evidence = guard.remember(evidence, DESCENDING, ASCENDING, ITEMS, SOME, 0)
    assert guard.condemns(evidence)
    for _ in range(4):
        evidence = guard.remember(evidence, DESCENDING, ASCENDING, ITEMS, SOME, 63)
    assert evidence == (-6.0,) * 4
    assert not guard.condemns(evidence)


def test_a_history_is_looked_back_on_click_by_click_each_by_what_came_before() -> None:
    guard, history = Guard(clicks=3), np.array([5, 0, 63, 1, 0])
    expected = tuple(click_loss(DESCENDING, ASCENDING, ITEMS, SOME, click) for click in (63, 1, 0))
    assert guard.look_back(DESCENDING, ASCENDING, ITEMS, history) == expected
    assert guard.look_back(DESCENDING, ASCENDING, ITEMS, history[:1]) == ()


def payload(base: Base, terms: Adaptation, sequence: int, expiry: int = NOW + 1000) -> bytes:
    return encode_payload(base, terms, device_id=bytes(16), sequence=sequence, issued=NOW, expiry=expiry)


def favorites(session: Session, clicks: int) -> Session:
    """Click what the base likes best, so that whatever turns its order over does harm."""
    for _ in range(clicks):
        session = session.observe(int(session.plain_best()))
    return session


@pytest.fixture
def fan(base: Base, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A user who clicks what the base puts first."""
    everything = Candidates(np.arange(len(base.table)))

    def best(self: Session) -> int:
        return int(np.argmax(self.plain.ranker.scores(self.history, everything)))

    monkeypatch.setattr(Session, "plain_best", best, raising=False)
    session = open_session(base, history=np.array([4, 17, 30]), allow_unsigned=True, guard=Guard())
    return favorites(session, 8)


def harm(base: Base) -> Adaptation:
    """Turn the taste around: the last layer's output is far from the base's."""
    slot = next(each for each in base.manifest.slots if each.name == "blocks.1.contract")
    weights = np.random.default_rng(3).normal(0, 8, (slot.channels, slot.inputs))
    return Adaptation(deltas=(Dense(slot.name, weights.astype(np.float16)),))


def test_a_harmful_payload_is_dropped_on_arrival_and_its_sequence_stays_taken(base: Base, fan: Session) -> None:
    after, receipt = fan.receive(payload(base, harm(base), 7), NOW)
    assert (receipt.accepted, receipt.dropped, after.payloads, after.highest) == (True, True, (), 7)
    assert after.in_force(NOW) is fan.plain
    without, receipt = open_session(base, history=fan.history, allow_unsigned=True).receive(payload(base, harm(base), 7), NOW)
    assert (receipt.dropped, len(without.payloads)) == (False, 1)


def test_with_a_harmful_payload_goes_the_harmful_one_behind_it(base: Base, fan: Session) -> None:
    """What came to the front knew only the clicks of its own arrival: the simulator found it ranking on."""
    young = open_session(base, history=fan.history[:4], allow_unsigned=True, guard=Guard())
    for sequence in (7, 8):
        young, receipt = young.receive(payload(base, harm(base), sequence), NOW)
        assert not receipt.dropped
    assert len(young.payloads) == 2
    clicked = favorites(young, 3)
    assert [len(each.evidence) for each in young.payloads] == [3, 3]
    assert clicked.payloads == ()


def test_a_harmless_payload_stays(base: Base, fan: Session) -> None:
    after, receipt = fan.receive(payload(base, Adaptation(), 7), NOW)
    assert (receipt.accepted, receipt.dropped) == (True, False)
    assert len(favorites(after, 10).payloads) == 1


def test_what_shows_its_harm_later_gives_way_to_the_older_payload(base: Base) -> None:
    fresh = open_session(base, history=np.array([4]), allow_unsigned=True, guard=Guard(least=2))
    older, _ = fresh.receive(payload(base, Adaptation(), 6), NOW)
    session, receipt = older.receive(payload(base, harm(base), 7), NOW)
    assert (receipt.dropped, [each.header.sequence for each in session.payloads]) == (False, [7, 6])
    everything = Candidates(np.arange(len(base.table)))
    for _ in range(8):
        session = session.observe(int(np.argmax(session.plain.ranker.scores(session.history, everything))))
    assert [each.header.sequence for each in session.payloads] == [6]
    assert session.highest == 7
