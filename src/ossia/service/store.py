"""What the service must not forget: devices, their sequences, releases, feedback. SQLite by `apsw`, in one file.

    WAL, synchronous FULL     what was acknowledged survives kill −9 and a power cut           `database.py`
    one writer thread         a group of writes shares one commit, and only then is answered   `group_commit.py`
    VACUUM                    what was erased is nowhere in the file or its log                `group_commit.py`

What a statement does stands in a plain function of (arguments, connection); there is no query from outside.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ossia.errors import UsageError
from ossia.service.database import FILE, connect, open_database
from ossia.service.group_commit import Answer, Writer

if TYPE_CHECKING:
    import apsw


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
        self._connection = open_database(folder / FILE)
        self._reader = connect(folder / FILE)
        self._writer = Writer(self._connection)
        self._closed = False
        self._guard = threading.Lock()

    def close(self) -> None:
        """Commit what waits, truncate the log, and close."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self._writer.finish()
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
        return self._submit(partial(_erase, device), erases=True)

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

    def _submit(self, write: "Callable[[apsw.Connection], Answer]", *, erases: bool = False) -> "Future[Answer]":
        """Hand a write to the writer."""
        with self._guard:
            if self._closed:
                raise UsageError("store: expected an open one, got one that was closed")
            return self._writer.submit(write, erases=erases)


def _erase(device: bytes, connection: "apsw.Connection") -> bool:
    """Delete all that is known of a device."""
    connection.execute("DELETE FROM feedback WHERE device = ?", (device,))
    connection.execute("DELETE FROM report WHERE device = ?", (device,))
    return bool(connection.execute("DELETE FROM device WHERE id = ? RETURNING 1", (device,)).fetchall())


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
