"""A raw log, read: who met what and when, and in which order the file says so.

    read_log("ratings.csv")  →   user   item   time        row
                                 "196"  "242"  881250949   0
                                 "186"  "302"  891717742   1

Ids are strings, since half of all catalogs have ids such as `007`. Columns are named by the caller or recognized by the
names that public data sets use. A log without a time column is in the order of its file; its frame has no `time`. A value
(a rating, a play count) is read only if the caller asks for it. Nothing is filtered and nothing is numbered here: that is
`prepare`.

A log may be one file, several with the same columns (the second goes on where the first ends), or a frame of polars, pandas
or Arrow. A first line of numbers is no header; nor is one of which the caller says so. Four columns are then `user item
rating time`, two are `user item`, others are named by the caller: `column_1`, `column_2`, …. *Sequences* are read as well:
one line per user, `user item item item …`, oldest first (a `.txt` file of whole numbers between spaces is taken for one, and
a line of two is a pair).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ossia.data.columns import (
    ITEM_NAMES,
    TIME_NAMES,
    USER_NAMES,
    VALUE_NAMES,
    find_column,
    how_many,
    needed_column,
    read_ids,
)
from ossia.data.sequences import is_sequences, read_sequences
from ossia.data.tables import FORMATS, Table, open_table
from ossia.data.times import are_dates, parse_times
from ossia.data.typed import open_frame
from ossia.errors import DataError, UsageError

LOG_FORMATS = (*FORMATS, "sequences", "pairs")
RECOGNIZED = "auto"
"""As the name of a column: whichever is recognized."""
HEADLESS = {
    2: {"user": "column_1", "item": "column_2"},
    4: {"user": "column_1", "item": "column_2", "value": "column_3", "time": "column_4"},
}
"""What columns without names are taken for, by how many there are."""


def read_log(
    log: Any,
    *,
    format: str = "auto",  # noqa: A002 - the word that people look for
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    value: str | None = None,
    header: bool | None = None,
) -> pl.DataFrame:
    """Read a log of interactions.

    Args:
        log: a path: CSV, TSV, RecBole `.inter`, pairs or sequences, plain or gzipped; Parquet or Arrow. Or a frame of polars,
            pandas or Arrow. Or a list of these, with the same columns, in order.
        format: of files, one of `LOG_FORMATS`; `auto` looks at the content.
        user: the user column; None: recognized.
        item: the item column; None: recognized.
        time: the time column; None: recognized, and a log without one is in the order of its file.
        value: the column of ratings or the like; `auto`: recognized, and there must be one; None: not read.
        header: whether the first line names the columns; None: yes, unless it is all numbers. Without a header, columns are
            `column_1`, `column_2`, …; exactly four are user, item, rating and time, exactly two are user and item.

    Returns:
        columns `user` and `item` (String), `time` (Int64 or Float64; missing if the log has none), `value` (Float64; only if
        asked for), `row` (Int64, the order in the file, from 0).

    Raises:
        UsageError: there is no such format, one column is asked to be two things, or `log` is neither path nor frame.
        DataError: a file can't be used, or does not fit the first; names file, line and column.
    """
    if format not in LOG_FORMATS:
        raise UsageError(f"format: expected one of {', '.join(LOG_FORMATS)}, got {format!r}")
    logs = log if isinstance(log, list | tuple) else [log]
    if not logs:
        raise UsageError("log: expected at least one file or frame, got an empty list")
    wanted = {"user": user, "item": item, "time": time, "value": value}
    parts = [_read_part(each, format, wanted, header) for each in logs]
    for part in parts[1:]:
        _check_fits(parts[0], part)
    events = parts[0].events if len(parts) == 1 else pl.concat([part.events for part in parts], how="vertical_relaxed")
    return events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))


@dataclass(frozen=True, eq=False)
class _Part:
    """One file of a log, read; `columns` names what each role was found under, nothing for pairs and sequences."""

    where: str
    events: pl.DataFrame
    columns: Mapping[str, str]
    dated: bool


def _read_part(log: Any, format: str, wanted: dict[str, str | None], header: bool | None) -> _Part:  # noqa: A002
    """Read one file or frame."""
    if not isinstance(log, str | Path):
        return _read_table(open_frame(log), wanted)
    path, columnar = Path(log), header is not None or any(wanted.values())
    if format in ("sequences", "pairs") or (format == "auto" and not columnar and is_sequences(path)):
        if wanted["value"] is not None:
            raise DataError(f"{path}: expected a value column, got {format}, which have none")
        events = read_sequences(path, sure=format != "auto", pairs=format == "pairs")
        return _Part(str(path), events.drop("row"), {}, False)
    return _read_table(open_table(path, format, header=header), wanted)


def _read_table(table: Table, wanted: dict[str, str | None]) -> _Part:
    """Read the columns that make a log."""
    columns = _columns(table, wanted)
    frame = table.select(tuple(columns.values()))
    log = {role: read_ids(table, frame, columns[role]) for role in ("user", "item")}
    if "time" in columns:
        log["time"] = _checked(table, frame, columns["time"], parse_times(frame[columns["time"]]), "a number or an ISO date")
    if "value" in columns:
        log["value"] = _checked(table, frame, columns["value"], _numbers(frame[columns["value"]]), "a number")
    dated = "time" in columns and are_dates(frame[columns["time"]])
    return _Part(str(table.path), pl.DataFrame(log), columns, dated)


def _columns(table: Table, wanted: dict[str, str | None]) -> dict[str, str]:
    """Decide which column is user, item and, if there is one, time; and value, if it is asked for."""
    asked = wanted["value"] is not None
    wanted = wanted | ({"value": None} if wanted["value"] == RECOGNIZED else {})
    if not table.has_header:
        known = HEADLESS.get(len(table.names), {})
        wanted = {role: name or known.get(role) for role, name in wanted.items()}
    columns = {
        "user": needed_column(table, "user", USER_NAMES, wanted["user"]),
        "item": needed_column(table, "item", ITEM_NAMES, wanted["item"]),
    }
    time = find_column(table, "time", TIME_NAMES, wanted["time"])
    columns |= {} if time is None else {"time": time}
    columns |= {"value": needed_column(table, "value", VALUE_NAMES, wanted["value"])} if asked else {}
    if len(set(columns.values())) < len(columns):
        raise UsageError(f"{table.path}: expected different columns for {', '.join(columns)}, got {columns}")
    return columns


def _numbers(values: pl.Series) -> pl.Series:
    """Read numbers; null where there is none."""
    texts = values.str.strip_chars() if values.dtype == pl.String else values
    if not (texts.dtype.is_numeric() or texts.dtype == pl.String):
        return pl.Series(values.name, [None] * len(values), pl.Float64)
    return texts.cast(pl.Float64, strict=False).fill_nan(None)


def _checked(table: Table, frame: pl.DataFrame, column: str, read: pl.Series, what: str) -> pl.Series:
    """Refuse a column in which something could not be read."""
    bad = read.is_null().arg_true()
    if len(bad):
        value = frame[column][bad[0]]
        got = "nothing" if value is None else repr(value)
        raise DataError(f"{table.place(bad[0])}: {column}: expected {what}, got {got} ({how_many(len(bad))})")
    return read


def _check_fits(first: _Part, part: _Part) -> None:
    """Refuse a file whose columns are not the first one's: its events would be put in order by something else."""
    if part.columns != first.columns:
        expected, got = (_named(each.columns) for each in (first, part))
        raise DataError(f"{part.where}: expected {expected} as in {first.where}, got {got}")
    if part.dated != first.dated:
        kinds = ["dates" if each.dated else "numbers" for each in (first, part)]
        raise DataError(f"{part.where}: {part.columns['time']}: expected {kinds[0]} as in {first.where}, got {kinds[1]}")


def _named(columns: Mapping[str, str]) -> str:
    """Say which columns a log was found in."""
    return f"columns {', '.join(columns.values())}" if columns else "lines of user and items"
