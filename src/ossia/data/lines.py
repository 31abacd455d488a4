r"""Where the rows of a text table begin, on which line, and whether each has as many fields as the header.

A parser that meets a short row fills it up, shifts it or stops with an offset; a person wants the line. So the structure is
found first, with a few passes of numpy over the bytes: newlines end a row and separators end a field, unless the number of
quotes before them is odd (RFC 4180: a doubled quote inside quotes flips the parity twice, which changes nothing):

    bytes      7 , " a , b " , 1 \n
    parity     0 0 1 1 1 1 0 0 0 0            3 fields, 1 row

Blank lines are dropped, and counted in the line numbers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ossia.errors import DataError

NEWLINE, RETURN, QUOTE = b'\n\r"'


@dataclass(frozen=True, eq=False)
class Lines:
    """The rows of a text table that has been found to be rectangular.

    Attributes:
        data: the rows' bytes, without blank lines.
        ends: where each row ends in `data`, its newline included.
        numbers: each row's line in the file, from 1.
        quoted: whether fields may be in quotes.
    """

    data: bytes
    ends: Int64[np.ndarray, " rows"]
    numbers: Int64[np.ndarray, " rows"]
    quoted: bool

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.ends)

    def split(self) -> tuple[bytes, "Lines"]:
        """Take the first row off.

        Returns:
            its bytes, and the rows after it.
        """
        first = int(self.ends[0])
        return self.data[:first], Lines(self.data[first:], self.ends[1:] - first, self.numbers[1:], self.quoted)


def read_lines(path: Path, text: bytes, separator: str, *, quotes: bool) -> Lines:
    """Find the rows and check that each has as many fields as the first.

    Args:
        path: the file, for messages.
        text: its content, UTF-8, not blank.
        separator: one ASCII character.
        quotes: whether `"` around a field protects separators and newlines in it.

    Returns:
        the rows that are not blank, the header included.

    Raises:
        DataError: a ragged row, or a quote that opens or closes in the middle of a field; names the line.
    """
    characters = np.frombuffer(text, np.uint8)
    quoted = quotes and b'"' in text
    newlines, separators = (np.flatnonzero(characters == code) for code in (NEWLINE, ord(separator)))
    row_ends = newlines
    if quoted:
        inside = _inside_quotes(path, characters, ord(separator))
        row_ends, separators = newlines[~inside[newlines]], separators[~inside[separators]]
    ends = row_ends + 1 if text.endswith(b"\n") and len(row_ends) else np.append(row_ends + 1, len(text))
    starts = np.append(0, ends[:-1])
    blank = _blank(characters, starts, ends)
    numbers = (np.searchsorted(newlines, starts) + 1)[~blank]
    _check_fields(path, _counts(separators, ends)[~blank] + 1, numbers)
    kept = np.repeat(~blank, ends - starts) if blank.any() else None
    data = text if kept is None else characters[kept].tobytes()
    return Lines(data, np.cumsum((ends - starts)[~blank]), numbers, quoted)


def _counts(positions: Int64[np.ndarray, " marks"], ends: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Count the marks of each row."""
    return np.diff(np.searchsorted(positions, ends), prepend=0)


def _blank(
    characters: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " rows"], ends: Int64[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    r"""Find rows of nothing but their line end, `\n` or `\r\n`."""
    first, last, length = characters[starts], characters[ends - 1], ends - starts
    bare = (length == 1) & ((first == NEWLINE) | (first == RETURN))
    blank: Bool[np.ndarray, " rows"] = bare | ((length == 2) & (first == RETURN) & (last == NEWLINE))
    return blank


def _check_fields(path: Path, fields: Int64[np.ndarray, " rows"], numbers: Int64[np.ndarray, " rows"]) -> None:
    """Refuse a row with more or fewer fields than the first."""
    ragged = np.flatnonzero(fields != fields[0])
    if len(ragged):
        row = ragged[0]
        raise DataError(
            f"{path}:{numbers[row]}: expected {fields[0]} fields as in line {numbers[0]}, got {fields[row]}"
            f" (rows that don't fit: {len(ragged):,})"
        )


def _inside_quotes(path: Path, characters: UInt8[np.ndarray, " bytes"], separator: int) -> Bool[np.ndarray, " bytes"]:
    """Mark the bytes that stand between quotes; refuse quotes that don't stand around a whole field."""
    is_quote = characters == QUOTE
    inside: Bool[np.ndarray, " bytes"] = (np.cumsum(is_quote, dtype=np.uint8) & 1).astype(bool)
    quotes = np.flatnonzero(is_quote)
    edge = np.isin(characters, np.array([separator, NEWLINE, RETURN, QUOTE], np.uint8))
    before = np.where(quotes > 0, edge[quotes - 1], True)
    after = np.where(quotes + 1 < len(characters), edge[(quotes + 1) % len(characters)], True)
    misplaced = quotes[np.where(inside[quotes], ~before, ~after)]
    if len(misplaced) or len(quotes) % 2:
        where = misplaced[0] if len(misplaced) else quotes[-1]
        line = np.count_nonzero(characters[:where] == NEWLINE) + 1
        what = "one inside a field" if len(misplaced) else "one that is never closed"
        raise DataError(f'{path}:{line}: expected quotes (") only in pairs around whole fields, got {what}')
    return inside
