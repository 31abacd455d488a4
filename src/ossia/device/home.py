"""A device's folder, and who keeps it: the edge of `ossia.device.resident`, where values meet the disk.

    FOLDER/session     what is kept (`ossia.device.kept`), written whole, readable by its owner alone

**Written first, in force then.** A new value is taken only when the disk has it; where the disk refuses, the old one stays in
memory and on the disk, and the caller hears of it. So a device and its disk never disagree, and what was acknowledged
is there after a power cut. Old or new, never mixed: the file takes its name in one step.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from ossia.device.kept import Kept, decode_kept, encode_kept
from ossia.device.resident import Resident
from ossia.files import DISK, Disk, write_whole

FILE: Final = "session"


class Home:
    """A folder that belongs to one device.

    Args:
        folder: made with the first write.
        disk: what reads and writes.
    """

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder, self._disk = folder, disk
        self._file = folder / FILE

    def load(self) -> Kept | None:
        """Read what is kept, and sweep away what a power cut left half written.

        Returns:
            what is kept; None: the device is new.

        Raises:
            ArtifactError: the file is damaged.
        """
        with suppress(OSError):  # a disk that can't sweep can still be read
            for name in self._half_written():
                self._disk.wipe(self.folder / name)
        try:
            data = self._disk.read(self._file)
        except FileNotFoundError:
            return None
        return decode_kept(data, str(self._file))

    def commit(self, kept: Kept) -> None:
        """Write what is to be kept; it is on the disk when this returns.

        Args:
            kept: all of it.

        Raises:
            OSError: the disk refused; what was kept before still is.
        """
        write_whole(self._file, encode_kept(kept), mode=0o600, disk=self._disk)

    def erase(self) -> None:
        """Forget everything: overwrite, and remove."""
        for name in (*self._half_written(), FILE):
            if name in self._disk.names(self.folder):
                self._disk.wipe(self.folder / name)
        self._disk.flush_folder(self.folder)

    def _half_written(self) -> list[str]:
        """Name what writes left behind that never came to their end."""
        return [name for name in self._disk.names(self.folder) if name.startswith(f".{FILE}.")]


class Keeper:
    """Holds a device's present value, and keeps it on the disk.

    Args:
        home: its folder.
        resident: its value as it is now; it is written if the disk takes it.
    """

    def __init__(self, home: Home, resident: Resident) -> None:
        self._home, self.resident = home, resident
        with suppress(OSError):  # nothing is acknowledged yet, and a device with a full disk ranks all the same
            home.commit(resident.kept)

    def take(self, after: Resident) -> None:
        """Go on with a new value, once the disk has it.

        Args:
            after: the new value.

        Raises:
            OSError: the disk refused; the device goes on with what it was.
        """
        if after.kept is not self.resident.kept:
            self._home.commit(after.kept)
        self.resident = after
