"""A file's bytes, unpacked and known to be text, or an error that says where they stop making sense.

What a person calls a log may be missing, a folder, half a download or written by a program of 1998. Those are found here,
before anything is parsed, so that no later message has to guess. Compression is recognized by content, not by name.
"""

import gzip
import zlib
from pathlib import Path

from ossia.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_raw(path: Path) -> bytes:
    """Read a whole file, unpacking gzip.

    Args:
        path: the file.

    Returns:
        its content.

    Raises:
        DataError: there is no such file, it is a folder, it can't be read, it is empty, or the gzip is damaged.
    """
    if path.is_dir():
        raise DataError(f"{path}: expected a file, got a folder")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a file, found nothing there") from error
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, got: {error.strerror}") from error
    if data.startswith(GZIP_MAGIC):
        data = _unpacked(path, data)
    if not data or data.isspace():
        raise _empty(path)
    return data


def first_line(path: Path, limit: int = 65_536) -> bytes:
    """Peek at a file's first line without reading the rest, unpacking gzip.

    Args:
        path: the file.
        limit: read no more bytes than this.

    Returns:
        the line without its end; nothing if the file can't be read: `read_raw` will say why.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(limit).lstrip().split(b"\n", 1)[0].rstrip(b"\r")
    except (OSError, EOFError, zlib.error):
        return b""


def checked_text(path: Path, data: bytes) -> bytes:
    """Check that bytes are UTF-8 and drop a byte order mark.

    Args:
        path: where they came from, for the message.
        data: a file's content.

    Returns:
        the same text, without a byte order mark.

    Raises:
        DataError: they are not UTF-8 or hold a zero byte (names the line and the byte), or there is nothing but a mark.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(path, data, error.start) from error
    if (zero := data.find(b"\0")) >= 0:  # valid UTF-8, but what has it is UTF-16, an archive or damaged
        raise _not_text(path, data, zero)
    text = data.removeprefix(BYTE_ORDER_MARK)
    if not text or text.isspace():
        raise _empty(path)
    return text


def _unpacked(path: Path, data: bytes) -> bytes:
    """Unpack gzip, all of it."""
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected a whole gzip file of {len(data):,} bytes, got a damaged one: {error}") from error


def _empty(path: Path) -> DataError:
    """Say that there is nothing."""
    return DataError(f"{path}: expected a log, got an empty file")


def _not_text(path: Path, data: bytes, offset: int) -> DataError:
    """Say where text stops being text."""
    line = data.count(b"\n", 0, offset) + 1
    return DataError(f"{path}:{line}: expected UTF-8 text, got byte 0x{data[offset]:02x} at offset {offset:,}")
