"""A file as named columns, whatever it is written in; every row knows its place in the file.

    CSV        comma (or ; or |), quotes around fields     header line
    TSV        tab, no quotes                              header line
    RecBole    TSV whose header names types                user_id:token ⇥ item_id:token ⇥ timestamp:float
    headless   CSV or TSV whose first line is all numbers  columns are named column_1, column_2, …
    Parquet                                                schema

All but Parquet may be gzipped. `open_table` reads the structure; `select` parses only the columns that are asked for (a
review log is mostly text that nobody reads here). polars does the parsing; `lines` finds the rows, so that errors can
name them. The whole file is held in memory.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl

from ossia.data.lines import Lines, read_lines
from ossia.data.raw import PARQUET_MAGIC, checked_text, read_raw
from ossia.errors import DataError, UsageError

SEPARATORS = {"csv": ",", "tsv": "\t", "recbole": "\t"}
FORMATS = ("auto", *SEPARATORS, "parquet")
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
            raise DataError(f"{self.path}: expected well-formed text, got: {_first_line(error)}") from error
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


@dataclass(frozen=True, eq=False)
class ParquetTable:
    """A table in a Parquet file."""

    path: Path
    names: tuple[str, ...]
    data: bytes
    has_header: bool = True

    def select(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Read some columns.

        Args:
            names: different columns of this table.

        Returns:
            values as stored, in the order of `names`.

        Raises:
            DataError: the file is damaged.
        """
        with _whole_parquet(self.path):
            return pl.read_parquet(io.BytesIO(self.data), columns=list(names)).select(names)

    def place(self, row: int) -> str:
        """Name the file and the row.

        Args:
            row: from 0.

        Returns:
            such as `log.parquet: row 17`, counted from 1.
        """
        return f"{self.path}: row {row + 1:,}"


Table: TypeAlias = TextTable | ParquetTable
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
    if format == "parquet" or (format == "auto" and data.startswith(PARQUET_MAGIC)):
        return _parquet_table(path, data)
    return _text_table(path, checked_text(path, data), SEPARATORS.get(format), header)


def _parquet_table(path: Path, data: bytes) -> ParquetTable:
    """Read a Parquet file's schema."""
    with _whole_parquet(path):
        names = tuple(pl.read_parquet_schema(io.BytesIO(data)))
        rows = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
    if not rows:
        raise DataError(f"{path}: expected rows, got a Parquet file with columns only")
    return ParquetTable(path, names, data)


def _text_table(path: Path, text: bytes, separator: str | None, has_header: bool | None) -> TextTable:
    """Find the rows of a text file and name its columns."""
    first = text.lstrip().split(b"\n", 1)[0].decode()
    separator = separator or max("\t,;|", key=first.count)
    lines = read_lines(path, text, separator, quotes=separator != "\t")
    top, rows = lines.split()
    fields = _fields(top.decode(), separator, quoted=lines.quoted)
    if has_header is False or (has_header is None and all(map(_is_number, fields))):
        return TextTable(path, tuple(f"column_{index + 1}" for index in range(len(fields))), False, separator, lines)
    if not len(rows):
        raise DataError(f"{path}: expected rows after the header, got only the header: {', '.join(fields)}")
    return TextTable(path, tuple(map(_without_type, fields)), True, separator, rows)


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


@contextmanager
def _whole_parquet(path: Path) -> Iterator[None]:
    """Turn whatever polars makes of a damaged Parquet file into one error."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{path}: expected a whole Parquet file, got a damaged one: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """Shorten polars' advice to what happened."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
