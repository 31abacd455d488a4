"""What a device keeps: old or new and never mixed, whatever is cut or fails; and gone when it is erased."""

import hashlib
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, encode_payload
from ossia.device.home import FILE, Home
from ossia.device.kept import HEAD, Exchange, Kept, KeptPayload, bytes_since, decode_kept, encode_kept, exchanges, new_kept
from ossia.errors import ArtifactError
from ossia.simulation.cuts import FOLDER, Verdict, cut_everywhere
from ossia.simulation.disk import PowerCut, VirtualDisk
from ossia.simulation.kills import kill_often, write_naively

CANARY = "canary-of-an-item"


def lives(states: int) -> list[Kept]:
    """The first states of a device: clicks, payloads, requests."""
    kept = [new_kept(bytes(32))]
    for number in range(1, states):
        kept.append(
            msgspec.structs.replace(
                kept[-1],
                history=(*kept[-1].history, f"{CANARY}-{number}")[-5:],
                payloads=(KeptPayload(bytes([number % 256]) * 400), *kept[-1].payloads)[:2],
                counts={0: number},
                log=kept[-1].log + Exchange(number, "ask", 120).pack(),
            )
        )
    return kept


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    home, kept = Home(tmp_path / "device"), lives(5)[-1]
    assert home.load() is None
    home.commit(kept)
    assert Home(tmp_path / "device").load() == kept
    assert (tmp_path / "device" / FILE).stat().st_mode & 0o077 == 0


@given(position=st.integers(0, 10**6), value=st.integers(1, 255), cut=st.integers(0, 60))
def test_any_changed_byte_is_noticed(position: int, value: int, cut: int) -> None:
    data = bytearray(encode_kept(lives(4)[-1]))
    data[position % len(data)] ^= value
    with pytest.raises(ArtifactError, match="session: expected"):
        decode_kept(bytes(data[: len(data) - cut]), "session")


def test_the_log_is_read_back_and_counted() -> None:
    records = [Exchange(100, "enroll", 200), Exchange(190, "ask", 120, b"p" * 16, 1.5), Exchange(500, "reply", 400)]
    log = b"".join(each.pack() for each in records)
    assert list(exchanges(log)) == records
    assert bytes_since(log, 200, 50) == 120  # one is too old, one of a time that is yet to be


def test_every_cut_and_every_failing_call_leaves_the_old_or_the_new() -> None:
    verdict = cut_everywhere(lives(9), range(8))
    assert verdict.cuts > 800
    assert (verdict.torn, verdict.lost) == (0, 0)


class NoFlush(VirtualDisk):
    """A store that trusts in the operating system."""

    def flush(self, descriptor: int) -> None:
        self._step()


def test_the_cuts_find_a_store_that_does_not_flush() -> None:
    assert cut_everywhere(lives(4), range(4), NoFlush).torn > 10


@pytest.mark.parametrize("call", range(1, 6))
def test_a_read_that_fails_or_is_cut_changes_nothing(call: int) -> None:
    before, after = lives(3)[1:]
    disk = VirtualDisk(Random(0))
    home = Home(FOLDER, disk)
    home.commit(before)
    disk.cut_at = disk.steps + 3  # leaves a file half written
    with pytest.raises(PowerCut):
        home.commit(after)
    disk.crash()
    disk.steps, disk.fail_at = 0, call
    try:
        assert home.load() == before
    except OSError:
        assert disk.steps == call
    disk.fail_at = 0
    assert home.load() == before
    assert disk.names(FOLDER) == [FILE]


def commit(folder: Path, kept: Kept) -> None:
    Home(folder).commit(kept)


def test_kill_9_while_payloads_are_kept_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert kill_often(tmp_path, lives(200), commit, kills=40) == Verdict(40, torn=0, lost=0)


def test_the_kills_tear_a_naive_writer(tmp_path: Path) -> None:
    assert kill_often(tmp_path, lives(200), write_naively, kills=100).torn > 0


def test_erasing_leaves_no_byte_of_the_history_in_the_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for kept in lives(5):
        home.commit(kept)
    (tmp_path / f".{FILE}.half").write_bytes(CANARY.encode())  # what a power cut leaves
    assert any(CANARY.encode() in path.read_bytes() for path in tmp_path.iterdir())
    home.erase()
    assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert home.load() is None
    home.erase()  # twice is once


def test_a_session_of_the_first_version_counts_on_under_the_key_of_its_newest_payload(base: Base) -> None:
    kept = new_kept(bytes(range(32)))
    data = encode_payload(base, Adaptation(), issued=0, expiry=9, sequence=7, key_id=5, sign=lambda _: bytes(64))
    for payloads, key in (((KeptPayload(data),), 5), ((), 0)):
        fields = msgspec.to_builtins(msgspec.structs.replace(kept, payloads=payloads), builtin_types=(bytes,))
        del fields["counts"], fields["following"]
        body = msgspec.msgpack.encode(fields | {"highest": 9})
        found = decode_kept(HEAD.pack(b"OSSD", 1, hashlib.sha256(body).digest()) + body, "session")
        assert (found.counts, found.highest) == ({key: 9}, 9)
        assert decode_kept(encode_kept(found), "session") == found
