"""The store: what was acknowledged is there after a kill, what was erased is nowhere, and one flush serves many."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import apsw
import pytest

from ossia.errors import ArtifactError, UsageError
from ossia.service.database import FILE, MIGRATIONS
from ossia.service.store import EnrolledDevice, Store

NOW = 1_800_000_000
ME, YOU = bytes(range(16)), bytes(range(1, 17))
KEY = bytes(32)

WRITER = """
import sys
from pathlib import Path
from ossia.service.store import Store
store = Store(Path(sys.argv[1]))
store.enroll(bytes(16), bytes(32), 0).result()
while True:
    [sequence] = store.advance([bytes(16)]).result()
    print(sequence, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path)
    yield made
    made.close()


def held(store: Store) -> tuple[threading.Event, Future]:
    """Keep the writer busy until the event is set, so that what is written meanwhile waits together."""
    go = threading.Event()
    return go, store._submit(lambda connection: go.wait(10))


def test_a_device_is_enrolled_once_and_keeps_its_key(store: Store) -> None:
    assert store.device(ME) is None
    first = store.enroll(ME, KEY, NOW).result()
    assert first == EnrolledDevice(KEY, 0, NOW) == store.enroll(ME, KEY, NOW + 5).result() == store.device(ME)
    with pytest.raises(UsageError, match="expected the key that it was enrolled with"):
        store.enroll(ME, bytes([1] * 32), NOW).result()


def test_sequences_count_up_for_each_device_and_only_for_those_enrolled(store: Store) -> None:
    store.enroll(ME, KEY, NOW)
    assert store.advance([ME, YOU, ME]).result() == [1, None, 2]
    store.enroll(YOU, KEY, NOW)
    assert store.advance([YOU, ME]).result() == [1, 3]
    assert store.device(ME).sequence == 3


def test_no_sequence_is_given_out_twice_to_many_who_ask_at_once(store: Store) -> None:
    store.enroll(ME, KEY, NOW).result()
    given: list[int | None] = []

    def ask() -> None:
        given.extend(sequence for _ in range(50) for sequence in store.advance([ME]).result())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 201))


def test_writes_that_wait_share_one_commit(store: Store) -> None:
    commits = []
    store._connection.set_commit_hook(lambda: bool(commits.append(1)))
    go, first = held(store)
    waiting = [store.enroll(index.to_bytes(16, "big"), KEY, NOW) for index in range(200)]
    go.set()
    assert [each.result().sequence for each in waiting] == [0] * 200
    assert first.result()
    assert len(commits) <= 3


def test_a_refused_write_does_not_disturb_its_neighbors(store: Store) -> None:
    go, _ = held(store)
    before, refused, after = store.enroll(ME, KEY, NOW), store.add_feedback(YOU, NOW, [b"x"]), store.advance([ME])
    go.set()
    assert (before.result().sequence, after.result()) == (0, [1])
    with pytest.raises(UsageError, match="expected one that is enrolled"):
        refused.result()


def test_a_disk_that_refuses_fails_everybody_in_the_group_and_keeps_nothing(store: Store) -> None:
    go, _ = held(store)
    kept = store.enroll(ME, KEY, NOW)
    broken = store._submit(lambda connection: connection.execute("SELECT * FROM nothing"))
    go.set()
    for each in (kept, broken):
        with pytest.raises(apsw.SQLError):
            each.result()
    assert store.device(ME) is None
    assert store.enroll(ME, KEY, NOW).result().sequence == 0


@pytest.mark.parametrize("feedback", [True, False])
def test_an_erased_devices_bytes_are_in_no_file(store: Store, tmp_path: Path, feedback: bool) -> None:
    device, key, canary = b"canary-device-id", b"canary-public-key-of-32-bytes!!!", b"canary-of-feedback" * 400
    for index in range(200):
        store.enroll(index.to_bytes(16, "big"), KEY, NOW)
    store.enroll(device, key, NOW).result()
    store.advance([device] * 20).result()
    if feedback:
        store.add_feedback(device, NOW, [canary, canary[::-1]]).result()
    assert any(b"canary-" in path.read_bytes() for path in tmp_path.iterdir())  # the search can find something
    assert store.erase(device).result() is True
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert [name for name, content in files.items() if b"canary-" in content or canary[:16][::-1] in content] == []
    assert store.erase(device).result() is False
    assert store.counts() == {"devices": 200, "feedback": 0}


def test_feedback_and_settings_are_kept(store: Store, tmp_path: Path) -> None:
    store.enroll(ME, KEY, NOW)
    assert store.add_feedback(ME, NOW, [b"a", b"b"]).result() == 2
    assert store.add_feedback(ME, NOW, [b"c"]).result() == 3
    store.set("stage", b"1").result()
    store.set("stage", b"10").result()
    store.close()
    again = Store(tmp_path)
    assert (again.get("stage"), again.get("nothing"), again.counts()) == (b"10", None, {"devices": 1, "feedback": 3})
    again.close()


def test_of_an_erased_device_no_file_has_a_byte_left_when_the_answer_comes(store: Store, tmp_path: Path) -> None:
    """Among many others, with the store open and the log not folded in by a close."""
    devices = [b"canary" + index.to_bytes(10, "big") for index in range(300)]
    for index, device in enumerate(devices):
        store.enroll(device, b"public" + index.to_bytes(26, "big"), NOW)
        store.add_feedback(device, NOW, [b"event-%03d-%d" % (index, each) for each in range(20)])
        store.report(device, 7, True)
    store.advance(devices).result()
    erased = set(range(0, 300, 7))
    for index in erased:
        assert store.erase(devices[index]).result()
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert devices[index] not in content
        assert b"public" + index.to_bytes(26, "big") not in content
        assert b"event-%03d" % index not in content
    kept = [index for index in range(300) if index not in erased]
    assert all(devices[index] in content for index in kept)
    assert store.counts() == {"devices": len(kept), "feedback": 20 * len(kept)}
    assert store.reports() == {7: (len(kept), len(kept))}


def test_a_device_has_one_voice_on_a_release_and_the_last_one_counts(store: Store) -> None:
    for each in (ME, YOU):
        store.enroll(each, KEY, NOW)
    assert [store.report(ME, 7, worse).result() for worse in (True, True, False, True)] == [(1, 1), (1, 1), (1, 0), (1, 1)]
    assert store.report(YOU, 7, False).result() == (2, 1)
    assert store.report(YOU, 8, True).result() == (1, 1)
    assert store.reports() == {7: (2, 1), 8: (1, 1)}
    assert store.erase(ME).result()
    assert store.reports() == {7: (1, 0), 8: (1, 1)}
    with pytest.raises(UsageError, match="enrolled"):
        store.report(ME, 7, True).result()


def test_a_store_of_the_first_version_is_brought_to_todays(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute(f"BEGIN; {MIGRATIONS[0]}; PRAGMA user_version = 1; COMMIT")
    connection.execute("INSERT INTO device VALUES (?, ?, 41, 0)", (ME, KEY))
    connection.close()
    store = Store(tmp_path)
    assert store.advance([ME]).result() == [42]
    assert store.report(ME, 1, True).result() == (1, 1)
    store.close()


def test_closing_commits_what_waits_and_then_refuses(store: Store, tmp_path: Path) -> None:
    waiting = [store.enroll(index.to_bytes(16, "big"), KEY, NOW) for index in range(100)]
    store.close()
    assert all(each.done() for each in waiting)
    with pytest.raises(UsageError, match="closed"):
        store.advance([ME])
    again = Store(tmp_path)
    assert again.counts()["devices"] == 100
    again.close()


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    highest = 0
    for round_ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        acknowledged = [int(writer.stdout.readline()) for _ in range(5 + 7 * round_)]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")[:-1]
        writer.wait()
        given = [*acknowledged, *map(int, rest)]
        assert given[0] > highest, "a sequence was given out twice"
        store = Store(tmp_path)
        kept = store.device(bytes(16)).sequence
        assert given[-1] <= kept <= given[-1] + 1  # one may be committed that nobody was told of
        assert store._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        store.close()
        highest = kept


def test_a_store_of_a_newer_version_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(ArtifactError, match=f"of version {len(MIGRATIONS)} or older, got 99"):
        Store(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactError, match="expected a store, got"):
        Store(tmp_path / "b")
