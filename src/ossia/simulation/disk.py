"""A disk in memory that can lose its power at any step, or fail at any call.

    bytes     written, then flushed: what was not flushed survives in part, or as zeros, or not at all
    names     made and replaced, then flushed with their folder: of those that were not, the first few survive

A name and the bytes behind it survive independently of each other, as on a journaling file system that orders its metadata:
that is why a rename without a flush before it can leave an empty file under a good name. `crash` draws one of the states in
which the medium may be found.
"""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ossia.files import Disk


class PowerCut(Exception):  # noqa: N818 - it is no error of the program that meets it
    """The power is gone; nothing works until the machine starts again."""


@dataclass
class Inode:
    """A file's bytes: those in memory, of which the first `flushed` are on the medium."""

    data: bytearray = field(default_factory=bytearray)
    flushed: int = 0


class VirtualDisk(Disk):
    """A disk in memory.

    Args:
        random: draws what survives.
        cut_at: the step at which the power goes, from 1; 0: never.
        fail_at: the step that fails with an error, from 1; 0: none.
    """

    def __init__(self, random: Random, *, cut_at: int = 0, fail_at: int = 0) -> None:
        self.random, self.cut_at, self.fail_at = random, cut_at, fail_at
        self.steps = 0
        self._names: dict[Path, Inode] = {}
        self._durable: dict[Path, Inode] = {}
        self._pending: list[tuple[Path, Inode | None]] = []
        self._open: dict[int, Inode] = {}
        self._counter = 0
        self._dead = False

    def crash(self) -> None:
        """Lose the power and come back: keep what was flushed, and some of what was not."""
        for path, inode in self._pending[: self.random.randint(0, len(self._pending))]:
            _put(self._durable, path, inode)
        for inode in {id(each): each for each in self._durable.values()}.values():
            self._tear(inode)
        self._names, self._pending, self._open = dict(self._durable), [], {}
        self._dead, self.cut_at, self.fail_at = False, 0, 0

    def certain(self, path: Path) -> bytes:
        """Return what would be found under a name after a power cut, whatever chance does.

        Args:
            path: the name.

        Returns:
            the flushed bytes under its flushed name; nothing without one.
        """
        inode = self._durable.get(path)
        return b"" if inode is None else bytes(inode.data[: inode.flushed])

    def open_new(self, folder: Path, prefix: str) -> tuple[int, Path]:
        """Make a file with a name of its own.

        Args:
            folder: where.
            prefix: how its name begins.

        Returns:
            descriptor and path.
        """
        self._step()
        self._counter += 1
        path, inode = folder / f"{prefix}{self._counter}", Inode()
        self._open[self._counter] = inode
        self._name(path, inode)
        return self._counter, path

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Append bytes; at a cut or a failure some of them.

        Args:
            descriptor: of an open file.
            data: what to write.
        """
        inode = self._open[descriptor]
        try:
            self._step()
        except (OSError, PowerCut):
            inode.data += bytes(data)[: self.random.randint(0, len(data))]
            raise
        inode.data += data

    def flush(self, descriptor: int) -> None:
        """Force a file's bytes to the medium.

        Args:
            descriptor: of an open file.
        """
        self._step()
        self._open[descriptor].flushed = len(self._open[descriptor].data)

    def close(self, descriptor: int) -> None:
        """Close a file.

        Args:
            descriptor: of an open file.
        """
        self._step()
        self._open.pop(descriptor, None)

    def replace(self, path: Path, target: Path, mode: int) -> None:  # noqa: ARG002
        """Give a file another name in one step.

        Args:
            path: the file.
            target: its new name.
            mode: of no account here.
        """
        self._step()
        inode = self._names[path]
        self._name(path, None)
        self._name(target, inode)

    def flush_folder(self, folder: Path) -> None:  # noqa: ARG002
        """Force names to the medium.

        Args:
            folder: of no account here: there is one journal.
        """
        self._step()
        for path, inode in self._pending:
            _put(self._durable, path, inode)
        self._pending = []

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file.
        """
        self._step()
        if path in self._names:
            self._name(path, None)

    def wipe(self, path: Path) -> None:
        """Overwrite a file, and remove it.

        Args:
            path: the file.
        """
        self._step()
        self._names[path].data[:] = bytes(len(self._names[path].data))
        self._name(path, None)

    def read(self, path: Path) -> bytes:
        """Read a whole file.

        Args:
            path: the file.

        Returns:
            its bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        self._step()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return bytes(self._names[path].data)

    def names(self, folder: Path) -> list[str]:
        """List what is in a folder.

        Args:
            folder: the folder.

        Returns:
            names, sorted.
        """
        self._step()
        return sorted(path.name for path in self._names if path.parent == folder)

    def _step(self) -> None:
        """Count a call, and fail it if it is its turn."""
        self.steps += 1
        if self._dead or self.steps == self.cut_at:
            self._dead = True
            raise PowerCut
        if self.steps == self.fail_at:
            raise OSError(errno.ENOSPC, "no space left")

    def _name(self, path: Path, inode: Inode | None) -> None:
        """Change a name in memory; the medium follows later."""
        _put(self._names, path, inode)
        self._pending.append((path, inode))

    def _tear(self, inode: Inode) -> None:
        """Lose some of what was not flushed: a part of it is there, and the rest is missing or zeros."""
        length = len(inode.data)
        if inode.flushed < length:
            kept = self.random.randint(inode.flushed, length)
            inode.data[kept:] = bytes(length - kept) if self.random.random() < 0.5 else b""
            inode.flushed = len(inode.data)


def _put(names: dict[Path, Inode], path: Path, inode: Inode | None) -> None:
    """Give a name to a file, or take it away."""
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode
