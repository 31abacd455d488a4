"""A store that remembers no device: nothing about who asks is ever on the disk. `ossia serve --stateless`.

    devices      are not listed: a token proves itself, and an enrolment leaves nothing behind
    sequences    one count for all devices together, so that each device's own grow; of the count only a lease is kept:
                 no number below `lease` is given out after a restart, and so none twice
    feedback, reports on releases, erasure      there is nothing to tell, nothing to count, nothing to erase

The price: a token can't be taken back before it runs out, a release is not halted by complaints, and a device sees from its
sequences how many payloads all devices asked for.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ossia.errors import UsageError
from ossia.service.store import EnrolledDevice, Store, set_setting

if TYPE_CHECKING:
    import apsw

LEASE = "lease"
BLOCK = 100_000  # numbers to a lease: one write to the disk for so many payloads, and so many skipped at a restart


class Stateless(Store):
    """A store of settings alone, which counts for all devices together."""

    def __init__(self, folder: Path) -> None:
        """Open or make it; a folder that knew devices once goes on above their sequences.

        Args:
            folder: the service's data.

        Raises:
            ArtifactError: no store, or one of a newer version.
            UsageError: there are devices: they were promised to be remembered.
        """
        super().__init__(folder)
        devices = self.counts()["devices"]
        if devices:
            self.close()
            raise UsageError(f"{folder}: expected a store without devices, found {devices:,}; take a folder of its own")
        self._next = int.from_bytes(self.get(LEASE) or b"", "little") + 1

    def enroll(self, device: bytes, public: bytes, now: int) -> "Future[EnrolledDevice]":
        """Say what would be known of a device.

        Args:
            device: 16 bytes.
            public: its key, 32 bytes.
            now: seconds since 1970.

        Returns:
            the key as it came, and a sequence below all that follow.
        """
        del device
        return _done(EnrolledDevice(public, self._next - 1, now))

    def advance(self, devices: Sequence[bytes]) -> "Future[list[int | None]]":
        """Take the next numbers.

        Args:
            devices: whoever; only their number counts.

        Returns:
            one number each, none of which was ever given out.
        """
        return self._submit(partial(self._take, len(devices)))

    def add_feedback(self, device: bytes, at: int, events: Sequence[bytes]) -> "Future[int]":
        """Refuse to keep anything.

        Args:
            device: 16 bytes.
            at: seconds since 1970.
            events: what a user chose to tell.

        Returns:
            never.

        Raises:
            UsageError: always.
        """
        del device, at, events
        raise UsageError("feedback: expected a service that keeps it, but this one is stateless")

    def report(self, device: bytes, release: int, worse: bool) -> "Future[tuple[int, int]]":
        """Refuse to count anybody.

        Args:
            device: 16 bytes.
            release: its number.
            worse: whether it complains.

        Returns:
            never.

        Raises:
            UsageError: always.
        """
        del device, release, worse
        raise UsageError("report: expected a service that counts devices, but this one is stateless")

    def _take(self, count: int, connection: "apsw.Connection") -> list[int | None]:
        """Count on, with a lease on the disk that covers what is given out. Runs in the writer, so one at a time."""
        found = connection.execute("SELECT value FROM setting WHERE name = ?", (LEASE,)).fetchall()
        value = found[0][0] if found else b""  # read, not remembered: a commit may have failed
        assert isinstance(value, bytes), "a lease is written by this method alone"
        first, self._next = self._next, self._next + count
        if self._next > int.from_bytes(value, "little"):
            set_setting(LEASE, (self._next + BLOCK).to_bytes(8, "little"), connection)
        return list(range(first, self._next))


def _done(value: EnrolledDevice) -> "Future[EnrolledDevice]":
    """Answer at once."""
    future: Future[EnrolledDevice] = Future()
    future.set_result(value)
    return future
