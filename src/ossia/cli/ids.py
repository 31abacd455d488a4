"""The user's own item ids, where they meet row numbers: histories and candidates in files.

A file holds a JSON array, `["50", "181", 258]`, or one id a line. Numbers are taken as written, because many catalogs number
their items. An id that the table does not know keeps its place as `ABSENT`, and is reported by name.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Int32

from ossia.adaptation.table import ItemTable
from ossia.errors import DataError, UsageError
from ossia.types import ABSENT

SHOWN = 5


@dataclass(frozen=True, eq=False)
class Listed:
    """Ids from a file, and the rows that they name.

    Attributes:
        ids: as written.
        rows: one row per id; `ABSENT` where the table has none.
    """

    ids: list[str]
    rows: Int32[np.ndarray, " ids"]

    @property
    def unknown(self) -> list[str]:
        """The ids that the table does not know, in order."""
        return [item for item, row in zip(self.ids, self.rows, strict=True) if row == ABSENT]


def read_listed(path: Path, table: ItemTable, what: str, *, some_known: bool = True) -> Listed:
    """Read ids from a file and find their rows.

    Args:
        path: the file; `-` is stdin.
        table: the catalog.
        what: history or candidates, for messages.
        some_known: refuse a file that names no item of the table: it would mean nothing.

    Returns:
        ids and rows.

    Raises:
        DataError: the file can't be read, is no list of ids, or names only items that the table does not know.
    """
    ids = parse_ids(_read(path, what), str(path))
    rows = np.array([table.row_of.get(item, ABSENT) for item in ids], np.int32)
    listed = Listed(ids, rows)
    if some_known and ids and len(listed.unknown) == len(ids):
        raise DataError(f"{path}: expected a {what} of items that the base knows, got none: {name_some(ids)}")
    return listed


def parse_ids(data: bytes, place: str) -> list[str]:
    r"""Read a JSON array of ids, or one id a line.

    Args:
        data: UTF-8.
        place: where it came from, for messages.

    Returns:
        the ids, as strings.

    Raises:
        DataError: not UTF-8, or JSON that is not an array of ids; names the place.

    Example:
        >>> parse_ids(b'["50", 181]', "h.json"), parse_ids(b"50\n181\n", "h.txt")
        (['50', '181'], ['50', '181'])
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: expected UTF-8, got byte {data[error.start]:#04x} at {error.start:,}") from error
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return [str(item) for item in msgspec.json.decode(text, type=list[str | int])]
    except msgspec.MsgspecError as error:
        raise DataError(f"{place}: expected a JSON array of item ids, got: {error}") from error


def parse_device_id(text: str) -> bytes:
    """Read a device id.

    Args:
        text: 32 hexadecimal digits.

    Returns:
        16 bytes.

    Raises:
        UsageError: anything else.
    """
    try:
        device_id = bytes.fromhex(text)
    except ValueError:
        device_id = b""
    if len(device_id) != 16:
        raise UsageError(f"device id: expected 32 hexadecimal digits, got {text!r}")
    return device_id


def name_some(ids: list[str]) -> str:
    """Name the first few ids of a list.

    Args:
        ids: any number.

    Returns:
        `a, b, c`, and how many more.

    Example:
        >>> name_some(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = len(ids) - SHOWN
    return ", ".join(ids[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _read(path: Path, what: str) -> bytes:
    """Read a file or stdin."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a file with a {what}, got: {error.strerror or error}") from error
