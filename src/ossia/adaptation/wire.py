"""Reading bytes in order, and lists of numbers as short as they can be spelled.

A sorted list of rows is written as its length, its first number and the gaps less one, each as a LEB128 varint: seven bits a
byte, lowest first, the top bit set on all but the last byte. Only the shortest spelling is accepted.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from ossia.errors import PayloadError

MAX_VARINT = 5  # bytes; enough for 2³⁵, and the largest list that a hostile length can ask for stays bounded by the data


class Reader:
    """Hands out a body's bytes in order; what is not there raises `PayloadError`."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte.

        Args:
            data: the bytes to read.
        """
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def take(self, count: int, field: str) -> bytes:
        """Read exactly `count` bytes.

        Args:
            count: how many.
            field: what they are, for the error.

        Returns:
            the bytes.

        Raises:
            PayloadError: fewer are left.
        """
        if count > self.left:
            raise PayloadError(f"{field}: expected {count:,} bytes, got {self.left:,}")
        self._at += count
        return self._data[self._at - count : self._at]

    def varints(self, count: int, field: str) -> Int64[np.ndarray, " count"]:
        """Read `count` varints.

        Args:
            count: how many numbers.
            field: what they are, for the error.

        Returns:
            the numbers, each below 2³⁵.

        Raises:
            PayloadError: fewer are there, or one is not in its shortest form.
        """
        if count > self.left:  # a number takes at least a byte; checked before anything is allocated
            raise PayloadError(f"{field}: expected {count:,} numbers, got {self.left:,} bytes")
        window = np.frombuffer(self._data, np.uint8, offset=self._at) if self.left else np.zeros(0, np.uint8)
        ends = np.flatnonzero(window < 128)[:count]
        if len(ends) < count:
            raise PayloadError(f"{field}: expected {count:,} numbers, got {len(ends):,}")
        octets = window[: int(ends[-1]) + 1 if count else 0]
        self._at += len(octets)
        return octets.astype(np.int64) if len(octets) == count else _join(octets, ends, field)


def encode_varints(numbers: Int64[np.ndarray, " count"]) -> bytes:
    """Write numbers as varints.

    Args:
        numbers: each 0 … 2³⁵ − 1.

    Returns:
        one to five bytes a number.

    Example:
        >>> encode_varints(np.array([5, 300])).hex()
        '05ac02'
    """
    if numbers.max(initial=0) < 128:
        return numbers.astype(np.uint8).tobytes()
    places = 7 * np.arange(MAX_VARINT)
    groups = numbers[:, None] >> places
    used = (groups > 0) | (places == 0)
    more = np.append(used[:, 1:], np.zeros((len(numbers), 1), bool), axis=1)
    return (groups & 127 | more << 7).astype(np.uint8)[used].tobytes()


def varint_bytes(largest: int) -> int:
    """Return how many bytes the longest varint of numbers up to `largest` takes.

    Args:
        largest: the largest number, ≥ 0.

    Returns:
        one to five.
    """
    return max(1, -(-largest.bit_length() // 7))


def encode_sorted(rows: Int64[np.ndarray, " count"]) -> bytes:
    """Write a strictly ascending list: its length, its first number, the gaps less one.

    Args:
        rows: ascending, without repeats.

    Returns:
        the varints.

    Example:
        >>> encode_sorted(np.array([3, 4, 10])).hex()
        '03030005'
    """
    gaps = np.diff(rows, prepend=-1) - 1
    return encode_varints(np.concatenate(([len(rows)], gaps)))


def decode_sorted(reader: Reader, below: int, field: str) -> Int64[np.ndarray, " count"]:
    """Undo `encode_sorted`.

    Args:
        reader: where to read.
        below: every number must be smaller.
        field: what the list is, for the error.

    Returns:
        the list, strictly ascending.

    Raises:
        PayloadError: a varint is malformed, or a number is too large.
    """
    count = int(reader.varints(1, field)[0])
    rows = np.cumsum(reader.varints(count, field) + 1) - 1
    if count and rows[-1] >= below:
        raise PayloadError(f"{field}: expected rows below {below:,}, got {rows[-1]:,}")
    return rows


def _join(octets: UInt8[np.ndarray, " bytes"], ends: Int64[np.ndarray, " count"], field: str) -> Int64[np.ndarray, " count"]:
    """Put the seven-bit groups of each varint together."""
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if (lengths > MAX_VARINT).any() or (octets[ends][lengths > 1] == 0).any():
        raise PayloadError(f"{field}: expected numbers in their shortest form, got a longer one")
    places = np.arange(len(octets)) - np.repeat(starts, lengths)
    return np.add.reduceat((octets & 127).astype(np.int64) << (7 * places), starts)
