"""Who looks for releases: `ossia.device.update` in a thread of its own, so that no ranking waits for a download.

What it hands over is on the disk, whole, and loaded: the device need only go on with it. A kill at any moment leaves the
release that was in force, and parts of the next, which go on at the next look. A release in force whose files were damaged is
fetched once more.
"""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ossia.adaptation.base import Base
from ossia.adaptation.keys import TrustedKeys
from ossia.adaptation.releases import KEYS
from ossia.device.following import News
from ossia.device.source import Mirror
from ossia.device.update import Updated, read_state, release_folder, update
from ossia.errors import ArtifactError, OssiaError


class Fetcher:
    """Fetches releases into a device's folder, one look at a time.

    Args:
        folder: the device's own, as `ossia.device.update.begin` made it.
        mirrors: asked in order.
        deliver: is handed what came, in the fetcher's thread.
        clock: seconds since 1970.
    """

    def __init__(
        self, folder: Path, mirrors: Sequence[Mirror], deliver: Callable[[News], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._mirrors, self._deliver, self._clock = folder, mirrors, deliver, clock
        self._keys = _read_keys(folder)
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._fetch_for_ever, name="fetcher", daemon=True).start()

    def fetch(self, held: int) -> None:
        """Look for a release, and return at once.

        Args:
            held: the release whose base the device has in memory; 0: none.
        """
        self._waiting.put(held)

    def look(self, held: int) -> News:
        """Look for a release, and say what came.

        Args:
            held: likewise.

        Returns:
            what came; whatever went wrong is in it.
        """
        try:
            done = update(self._folder, self._mirrors, int(self._clock()))
            return self._tell(done, held)
        except (OssiaError, OSError) as error:
            return News(False, held, faults=(str(error),))

    def _fetch_for_ever(self) -> None:
        """Be the fetcher."""
        while True:
            self._deliver(self.look(self._waiting.get()))

    def _tell(self, done: Updated, held: int) -> News:
        """Load what is new."""
        base, keys = None, _read_keys(self._folder)
        if done.release and done.release != held:
            base, done = self._load(done)
        changed, self._keys = keys != self._keys, keys
        return News(
            len(done.refused) < len(self._mirrors),
            done.release,
            base,
            TrustedKeys.load(self._folder / KEYS).verify if changed else None,
            done.received,
            max((each.release for each in done.refused if each.refusal == "not_a_base"), default=0),
            tuple(f"{each.refusal}: {each.reason}" for each in done.refused),
        )

    def _load(self, done: Updated) -> tuple[Base, Updated]:
        """Load the release in force; one that was damaged on the disk is fetched anew, once."""
        where = release_folder(self._folder, done.release)
        try:
            return Base.load(where), done
        except ArtifactError:
            shutil.rmtree(where, ignore_errors=True)
        done = update(self._folder, self._mirrors, int(self._clock()))
        return Base.load(release_folder(self._folder, done.release)), done


def load_release(folder: Path) -> tuple[int, Base | None]:
    """Load the release in force, at the start.

    Args:
        folder: a device's, with a state.

    Returns:
        its number, 0 before the first; and its base, None where there is none or it is damaged.
    """
    number = read_state(folder).release
    try:
        return number, Base.load(release_folder(folder, number)) if number else None
    except ArtifactError:
        return number, None


def _read_keys(folder: Path) -> bytes:
    """Read the list of keys as it is; nothing where there is none yet."""
    path = folder / KEYS
    return path.read_bytes() if path.exists() else b""
