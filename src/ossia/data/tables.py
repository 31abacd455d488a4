"""A file as named columns, whatever it is written in; every row knows its place in the file.

    CSV        comma (or ; or |), quotes around fields     header line
    TSV        tab, no quotes                              header line
    RecBole    TSV whose header names types                user_id:token ⇥ item_id:token ⇥ timestamp:float
    headless   such text whose first line is all numbers   columns are named column_1, column_2, …; also between spaces
    Parquet    and Arrow (IPC file or stream, Feather 2)   schema, see `typed`

Text may be gzipped. `open_table` reads the structure; `select` parses only the columns that are asked for (a review log is
mostly text that nobody reads here). polars does the parsing; `lines` finds the rows, so that errors can name them. The whole
file is held in memory.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl

from ossia.data.lines import Lines, read_lines
from ossia.data.raw import checked_text, read_raw
from ossia.data.typed import TYPED, TypedTable, first_words, read_typed, typed_format
from ossia.errors import DataError, UsageError

SEPARATORS = {"csv": ",", "tsv": "\t", "recbole": "\t"}
FORMATS = ("auto", *SEPARATORS, *TYPED)
RECBOLE_TYPES = ("token", "token_seq", "float", "float_seq")


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table in a text file: its structure is checked, its values are not parsed yet."""

    path: Path
    names: tuple[str, ...]
    has_header: bool
    separator: str
    lines: Lines

    def select(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Parse some columns.

        Args:
            names: different columns of this table.

        Returns:
            strings, one row per line of data, in the order of `names`; an empty field is null.

        Raises:
            DataError: polars found something that the structure did not show.
        """
        indexes = sorted(self.names.index(name) for name in names)
        try:
            frame = pl.read_csv(
                io.BytesIO(self.lines.data),
                separator=self.separator,
                quote_char='"' if self.lines.quoted else None,
                has_header=False,
                columns=indexes,
                infer_schema=False,
            )
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{self.path}: expected well-formed text, got: {first_words(error)}") from error
        if frame.height != len(self.lines):
            raise DataError(f"{self.path}: expected {len(self.lines):,} rows, got {frame.height:,}")
        frame.columns = [self.names[index] for index in indexes]
        return frame.select(names)

    def place(self, row: int) -> str:
        """Name the file and the line.

        Args:
            row: from 0; header and blank lines are not rows.

        Returns:
            such as `log.csv:17`, the line counted from 1 in the file.
        """
        return f"{self.path}:{self.lines.numbers[row]}"


Table: TypeAlias = TextTable | TypedTable
"""Named columns of a file: `names`, `select` and `place`; `has_header` is false where the names are ours."""


def open_table(path: Path, format: str = "auto", *, header: bool | None = None) -> Table:  # noqa: A002 - as in read_log
    """Read a file and find its columns and rows.

    Args:
        path: the file; text may be gzipped.
        format: one of `FORMATS`; `auto` looks at the content.
        header: whether the first line of a text file names the columns; None: yes, unless it is all numbers.

    Returns:
        the table, with at least one row.

    Raises:
        UsageError: there is no such format.
        DataError: no usable file there, not UTF-8, ragged rows, no rows; names file and line.
    """
    if format not in FORMATS:
        raise UsageError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    data = read_raw(path)
    kind = typed_format(data) if format == "auto" else format
    if kind in TYPED:
        return read_typed(path, data, kind)
    return _text_table(path, checked_text(path, data), SEPARATORS.get(format), header)


def _text_table(path: Path, text: bytes, separator: str | None, has_header: bool | None) -> TextTable:
    """Find the rows of a text file and name its columns."""
    first = text.lstrip().split(b"\n", 1)[0].decode()
    separator = separator or _separator(first)
    lines = read_lines(path, text, separator, quotes=separator not in "\t ")
    top, rows = lines.split()
    fields = _fields(top.decode(), separator, quoted=lines.quoted)
    if has_header is False or (has_header is None and all(map(_is_number, fields))):
        return TextTable(path, tuple(f"column_{index + 1}" for index in range(len(fields))), False, separator, lines)
    if not len(rows):
        raise DataError(f"{path}: expected rows after the header, got only the header: {', '.join(fields)}")
    return TextTable(path, tuple(map(_without_type, fields)), True, separator, rows)


def _separator(line: str) -> str:
    """Guess what cuts a line into fields; a space does only in a line of numbers, as names have spaces too."""
    best = max("\t,;|", key=line.count)
    return " " if best not in line and all(map(_is_number, line.split())) else best


def _fields(line: str, separator: str, *, quoted: bool) -> list[str]:
    """Cut one line into fields."""
    line = line.rstrip("\r\n")
    return next(csv.reader([line], delimiter=separator)) if quoted else line.split(separator)


def _without_type(field: str) -> str:
    """Turn RecBole's `user_id:token` into `user_id`."""
    name, _, kind = field.strip().rpartition(":")
    return name if kind in RECBOLE_TYPES else field.strip()


def _is_number(field: str) -> bool:
    """Whether a field of the first line shows that this line is no header."""
    try:
        float(field)
    except ValueError:
        return False
    return True
