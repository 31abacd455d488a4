"""Files written whole, or not at all.

A plain write that is killed half-way leaves a torn file behind (99 times in 150 when we tried). Everything that ossia writes
goes to a temporary neighbor first, is flushed to the disk, and then takes its name in one step; the folder is flushed
after it, so that the name survives a power cut too.

What that needs of the operating system is a `Disk`. A test, or a simulator, hands in one that is cut off at any step; what runs
on it is the very function that runs on a device.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ossia.errors import UsageError


class Disk:
    """What writing whole needs of an operating system."""

    def open_new(self, folder: Path, prefix: str) -> tuple[int, Path]:
        """Make a file with a name of its own, readable by its owner alone; a missing folder is made too.

        Args:
            folder: where.
            prefix: how its name begins.

        Returns:
            descriptor and path.
        """
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=prefix)
        return descriptor, Path(name)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Append bytes, all of them.

        Args:
            descriptor: of an open file.
            data: what to write.
        """
        left = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while left:
            left = left[os.write(descriptor, left) :]

    def flush(self, descriptor: int) -> None:
        """Force a file's bytes to the medium.

        Args:
            descriptor: of an open file.
        """
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file.

        Args:
            descriptor: of an open file.
        """
        os.close(descriptor)

    def replace(self, path: Path, target: Path, mode: int) -> None:
        """Give a file another name in one step; what had that name is gone.

        Args:
            path: the file.
            target: its new name.
            mode: who may read it from now on.
        """
        path.chmod(mode)  # mkstemp makes 0600, which a second service user could not read
        path.replace(target)

    def flush_folder(self, folder: Path) -> None:
        """Force a folder's entries to the medium; some file systems can't, and then the rename alone must do.

        Args:
            folder: the folder.

        Raises:
            OSError: the medium failed.
        """
        try:
            _flush(folder)
        except OSError as error:
            if error.errno not in CANNOT:
                raise

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file.
        """
        path.unlink(missing_ok=True)

    def wipe(self, path: Path) -> None:
        """Overwrite a file with zeros, as far as a file system lets one, and remove it.

        Args:
            path: the file.
        """
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()

    def read(self, path: Path) -> bytes:
        """Read a whole file.

        Args:
            path: the file.

        Returns:
            its bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        return path.read_bytes()

    def names(self, folder: Path) -> list[str]:
        """List what is in a folder.

        Args:
            folder: the folder; it may be missing.

        Returns:
            names, sorted.
        """
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}
"""What file systems answer that have no flush for folders, or none for us; anything else means that nothing is promised."""

DISK = Disk()


def write_whole(path: Path, data: bytes, *, mode: int = 0o644, disk: Disk = DISK) -> None:
    """Write `data` to `path` in one step: a reader sees the old bytes or the new ones, never a part.

    Args:
        path: where to write; its folder is made if it is missing.
        data: the file's whole content.
        mode: who may read it; 0o600 for a secret.
        disk: what writes.

    Raises:
        OSError: the disk refused; `path` is what it was, or what it was to be if only its folder could not be flushed.
    """
    write_parts(path, (data,), mode=mode, disk=disk)


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o644, disk: Disk = DISK) -> None:
    """Write a file that need not be in memory as a whole, in one step all the same.

    Args:
        path: where to write; its folder is made if it is missing.
        parts: the file's content, in order.
        mode: who may read it.
        disk: what writes.

    Raises:
        OSError: the disk refused; `path` is then what it was.
    """
    descriptor, fresh = disk.open_new(path.parent, f".{path.name}.")
    try:
        try:
            for part in parts:
                disk.write(descriptor, part)
            disk.flush(descriptor)
        finally:
            disk.close(descriptor)
        disk.replace(fresh, path, mode)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what the caller must hear
            disk.remove(fresh)
        raise
    disk.flush_folder(path.parent)


@contextmanager
def folder_whole(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty neighbor folder to fill; it takes the name `path` only if the block succeeds.

    Args:
        path: the folder to make.
        replace: an existing folder at `path` is swapped out; without it, one that is not empty is an error.

    Yields:
        the temporary folder.

    Raises:
        UsageError: `path` exists, is not empty, and `replace` is false.
    """
    if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: expected a new or empty folder, found an existing one")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    fresh.chmod(0o755)  # mkdtemp makes 0700
    try:
        yield fresh
        for file in sorted(fresh.rglob("*")):
            _flush(file)
        _swap_in(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    DISK.flush_folder(path.parent)


def sha256_file(path: Path) -> str:
    """Hash a file's bytes, as 64 hexadecimal digits.

    Args:
        path: the file.

    Returns:
        the SHA-256 digest.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap_in(fresh: Path, path: Path) -> None:
    """Give `fresh` the name `path`; what stood there is moved aside first and deleted last."""
    if not path.exists():
        fresh.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    path.rename(old / "was")
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Force one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
