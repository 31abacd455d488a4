"""What the service must not forget: devices, their sequences, releases, feedback. SQLite by `apsw`, in one file.

    WAL, synchronous FULL     what was acknowledged survives kill −9 and a power cut
    one writer thread         takes whatever waits, runs it in one transaction, commits once, and then answers everybody
    VACUUM                    after an erasure the database is written anew and the log truncated. `secure_delete` alone is not
                              enough: when SQLite moves rows between pages it leaves copies in what is free of a page
                              (benchmarks/erasure.py counts them: about one device in a hundred)

One commit a row is bound by the disk's flush: some hundred a second. A *group* commit shares one flush among all who wait, and
the more wait the more share it. A write that its own rules refuse (an unknown device) is refused before it has changed
anything, and its neighbors go on. Nobody is answered before the commit: an answer is a promise.

What a statement does stands in a plain function of (arguments, connection); there is no query from outside. SQLite before
3.51.3 could corrupt a WAL in a rare race between checkpoints: `apsw` brings its own, and an older one is refused.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ossia.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    import apsw

FILE = "service.db"
LEAST_SQLITE = (3, 51, 3)
GROUP = 1024  # writes that share one commit at most, so that the first of them does not wait for ever
PRAGMAS = (
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("secure_delete", "ON"),
    ("foreign_keys", "ON"),
    ("temp_store", "MEMORY"),  # a VACUUM's copy is nobody's on a disk
)
MIGRATIONS = (
    """
    CREATE TABLE device (
        id BLOB PRIMARY KEY, public BLOB NOT NULL, sequence INTEGER NOT NULL, enrolled INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE feedback (device BLOB NOT NULL REFERENCES device, at INTEGER NOT NULL, event BLOB NOT NULL);
    CREATE INDEX feedback_device ON feedback (device);
    CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE report (
        release INTEGER NOT NULL, device BLOB NOT NULL REFERENCES device, worse INTEGER NOT NULL, PRIMARY KEY (release, device)
    ) WITHOUT ROWID;
    CREATE INDEX report_device ON report (device);
    """,
)
"""Schema changes in order; `user_version` counts how many a file has seen. Never edit one that was released: add another."""

Answer = TypeVar("Answer")
Write: TypeAlias = "Callable[[apsw.Connection], object]"


@dataclass(frozen=True)
class EnrolledDevice:
    """A device that the service knows.

    Attributes:
        public: its own Ed25519 key, 32 bytes, with which it signs requests that change something.
        sequence: the highest that was ever issued to it.
        enrolled: seconds since 1970.
    """

    public: bytes
    sequence: int
    enrolled: int


class Store:
    """An open store. Writes come back as futures that are done when the disk has them; reads see what was committed."""

    def __init__(self, folder: Path) -> None:
        """Open or make the store of a folder, and start its writer.

        Args:
            folder: the service's data.

        Raises:
            ArtifactError: no store, or one of a newer version.
        """
        self._connection = _open(folder / FILE)
        self._reader = _connect(folder / FILE)
        self._waiting: queue.SimpleQueue[tuple[Write, Future[object]] | None] = queue.SimpleQueue()
        self._closed = False
        self._guard = threading.Lock()
        self._writer = threading.Thread(target=self._write_for_ever, name="store", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Commit what waits, truncate the log, and close."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._writer.join()
        self._reader.close()
        self._connection.close()

    def enroll(self, device: bytes, public: bytes, now: int) -> "Future[EnrolledDevice]":
        """Remember a device and its key; the same again changes nothing.

        Args:
            device: 16 bytes.
            public: its key, 32 bytes.
            now: seconds since 1970.

        Returns:
            what is known of it; UsageError where the id belongs to another key.
        """
        return self._submit(partial(_enroll, device, public, now))

    def advance(self, devices: Sequence[bytes]) -> "Future[list[int | None]]":
        """Take the next sequence of each device. Whatever happens, no sequence is ever given out twice.

        Args:
            devices: 16 bytes each; a device may stand there more than once.

        Returns:
            one sequence each, None for a device that is not enrolled.
        """
        return self._submit(partial(_advance, devices))

    def add_feedback(self, device: bytes, at: int, events: Sequence[bytes]) -> "Future[int]":
        """Keep what a user chose to tell.

        Args:
            device: 16 bytes.
            at: seconds since 1970.
            events: opaque bytes, one each.

        Returns:
            how many are kept of this device; UsageError for an unknown device.
        """
        return self._submit(partial(_add_feedback, device, at, events))

    def report(self, device: bytes, release: int, worse: bool) -> "Future[tuple[int, int]]":
        """Keep what a device says of a release; it has one voice, and the last one counts.

        Args:
            device: 16 bytes.
            release: its number.
            worse: whether it complains.

        Returns:
            how many devices reported on the release, and how many complain; UsageError for an unknown device.
        """
        return self._submit(partial(_report, device, release, worse))

    def reports(self) -> dict[int, tuple[int, int]]:
        """Count what devices say of releases.

        Returns:
            reports and complaints, by release.
        """
        found = self._read_all("SELECT release, count(*), sum(worse) FROM report GROUP BY release", ())
        return {release: (count, worse) for release, count, worse in found}

    def erase(self, device: bytes) -> "Future[bool]":
        """Forget a device: its bytes are overwritten in the database and gone from the log when the answer comes.

        Args:
            device: 16 bytes.

        Returns:
            whether there was anything to forget.
        """
        return self._submit(_Erasure(device))

    def set(self, name: str, value: bytes) -> "Future[None]":
        """Keep a setting, such as the stage of a release.

        Args:
            name: of the setting.
            value: its bytes.

        Returns:
            nothing, when it is kept.
        """
        return self._submit(partial(set_setting, name, value))

    def get(self, name: str) -> bytes | None:
        """Read a setting.

        Args:
            name: of the setting.

        Returns:
            its bytes, or None.
        """
        found = self._read("SELECT value FROM setting WHERE name = ?", (name,))
        return None if found is None else found[0]

    def device(self, device: bytes) -> EnrolledDevice | None:
        """Look a device up.

        Args:
            device: 16 bytes.

        Returns:
            what is known of it, or None.
        """
        found = self._read("SELECT public, sequence, enrolled FROM device WHERE id = ?", (device,))
        return None if found is None else EnrolledDevice(*found)

    def counts(self) -> dict[str, int]:
        """Count devices and events of feedback, for the health of the service.

        Returns:
            numbers by name.
        """
        devices, feedback = self._read("SELECT (SELECT count(*) FROM device), (SELECT count(*) FROM feedback)", ()) or (0, 0)
        return {"devices": devices, "feedback": feedback}

    def _read(self, statement: str, values: tuple[object, ...]) -> tuple | None:  # type: ignore[type-arg]
        """Ask the reading connection for one row."""
        return next(iter(self._read_all(statement, values)), None)

    def _read_all(self, statement: str, values: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]
        """Ask the reading connection; apsw connections take one thread at a time."""
        with self._guard:
            if self._closed:
                raise UsageError("store: expected an open one, got one that was closed")
            return list(self._reader.execute(statement, values))

    def _submit(self, write: Callable[["apsw.Connection"], Answer]) -> "Future[Answer]":
        """Hand a write to the writer."""
        done: Future[Answer] = Future()
        with self._guard:
            if self._closed:
                raise UsageError("store: expected an open one, got one that was closed")
            self._waiting.put((write, done))  # type: ignore[arg-type]
        return done

    def _write_for_ever(self) -> None:
        """Be the writer: take all that waits, commit once, answer."""
        open_ = True
        while open_:
            group = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(group) < GROUP:
                    group.append(self._waiting.get_nowait())
            open_ = None not in group
            _commit(self._connection, [each for each in group if each is not None])


def _commit(connection: "apsw.Connection", group: Sequence[tuple[Write, "Future[object]"]]) -> None:
    """Run writes in one transaction; each is answered after the commit, with its own result or its own error."""
    outcomes: list[object]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_attempt(connection, write) for write, _ in group]
        connection.execute("COMMIT")
    except Exception as error:  # the disk refused: nobody's write is kept, and everybody is told so
        with suppress(Exception):
            connection.execute("ROLLBACK")
        outcomes = [error] * len(group)
    if any(isinstance(write, _Erasure) for write, _ in group):
        fault = _write_anew(connection)
        outcomes = [
            fault or told if isinstance(write, _Erasure) else told for (write, _), told in zip(group, outcomes, strict=True)
        ]
    for (_, done), told in zip(group, outcomes, strict=True):
        _answer(done, told)


def _write_anew(connection: "apsw.Connection") -> Exception | None:
    """Copy what is left into a database without a trace of what was, and cut the log to nothing; returns what prevented it."""
    try:
        connection.execute("VACUUM")
        [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except Exception as error:  # apsw has a class for each of SQLite's codes
        return error
    return ArtifactError("store: expected to truncate the log after an erasure, but somebody was reading it") if busy else None


def _answer(done: "Future[object]", told: object) -> None:
    """Tell who asked; one who no longer listens is not told, and what was written stays written."""
    if not done.set_running_or_notify_cancel():
        return
    if isinstance(told, Exception):
        done.set_exception(told)
    else:
        done.set_result(told)


def _attempt(connection: "apsw.Connection", write: Write) -> object:
    """Run one write; a refusal is its answer. It comes before anything is written, so that there is nothing to undo."""
    try:
        return write(connection)
    except UsageError as error:
        return error


@dataclass(frozen=True)
class _Erasure:
    """Forgets a device. A type of its own, because the log is truncated after it."""

    device: bytes

    def __call__(self, connection: "apsw.Connection") -> bool:
        connection.execute("DELETE FROM feedback WHERE device = ?", (self.device,))
        connection.execute("DELETE FROM report WHERE device = ?", (self.device,))
        return bool(connection.execute("DELETE FROM device WHERE id = ? RETURNING 1", (self.device,)).fetchall())


def _enroll(device: bytes, public: bytes, now: int, connection: "apsw.Connection") -> EnrolledDevice:
    """Insert a device unless it is there."""
    found = connection.execute("SELECT public, sequence, enrolled FROM device WHERE id = ?", (device,)).fetchone()
    if found is not None and found[0] != public:
        raise UsageError("device: expected the key that it was enrolled with, got another")
    if found is None:
        found = (public, 0, now)
        connection.execute("INSERT INTO device VALUES (?, ?, ?, ?)", (device, *found))
    return EnrolledDevice(*found)


def _advance(devices: Sequence[bytes], connection: "apsw.Connection") -> list[int | None]:
    """Count the devices' sequences up, and read them afterwards: a RETURNING for each would take three times as long."""
    each = [(device,) for device in devices]
    connection.executemany("UPDATE device SET sequence = sequence + 1 WHERE id = ?", each)
    found = connection.executemany("SELECT id, sequence FROM device WHERE id = ?", each)
    last = {device: int(str(sequence)) for device, sequence in found}
    again = len(last) < len(devices)  # perhaps somebody stands there twice: what was read is the last of his
    later = [devices[at + 1 :].count(device) if again else 0 for at, device in enumerate(devices)]
    return [last[device] - more if device in last else None for device, more in zip(devices, later, strict=True)]


def _add_feedback(device: bytes, at: int, events: Sequence[bytes], connection: "apsw.Connection") -> int:
    """Insert events of a known device."""
    if connection.execute("SELECT 1 FROM device WHERE id = ?", (device,)).fetchone() is None:
        raise UsageError("device: expected one that is enrolled, got another")
    connection.executemany("INSERT INTO feedback VALUES (?, ?, ?)", ((device, at, event) for event in events))
    [(count,)] = connection.execute("SELECT count(*) FROM feedback WHERE device = ?", (device,)).fetchall()
    return int(str(count))


def _report(device: bytes, release: int, worse: bool, connection: "apsw.Connection") -> tuple[int, int]:
    """Insert or replace a device's report, and count."""
    if connection.execute("SELECT 1 FROM device WHERE id = ?", (device,)).fetchone() is None:
        raise UsageError("device: expected one that is enrolled, got another")
    connection.execute("INSERT OR REPLACE INTO report VALUES (?, ?, ?)", (release, device, int(worse)))
    count = "SELECT count(*), sum(worse) FROM report WHERE release = ?"
    [(reports, complaints)] = connection.execute(count, (release,)).fetchall()
    return int(str(reports)), int(str(complaints))


def set_setting(name: str, value: bytes, connection: "apsw.Connection") -> None:
    """Replace a setting, within a write.

    Args:
        name: of the setting.
        value: its bytes.
        connection: the writer's.
    """
    connection.execute(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )


def _open(path: Path) -> "apsw.Connection":
    """Open the writing connection, and bring the file to today's schema."""
    import apsw

    if tuple(map(int, apsw.sqlite_lib_version().split("."))) < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise ArtifactError(f"apsw: expected SQLite {least} or newer, got {apsw.sqlite_lib_version()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _connect(path)
        [(found,)] = connection.execute("PRAGMA user_version").fetchall()
        seen = int(str(found))
        if seen > len(MIGRATIONS):
            raise ArtifactError(f"{path}: expected a store of version {len(MIGRATIONS)} or older, got {seen}")
        for version, statements in enumerate(MIGRATIONS[seen:], start=seen + 1):
            connection.execute(f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version = {version}; COMMIT")
    except apsw.Error as error:
        raise ArtifactError(f"{path}: expected a store, got: {error}") from error
    return connection


def _connect(path: Path) -> "apsw.Connection":
    """Open a connection: durable, tidy, patient for a moment."""
    import apsw

    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    for name, value in PRAGMAS:
        connection.pragma(name, value)
    return connection
