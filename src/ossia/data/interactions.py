"""A raw log, read: who met what, when, and in which order the file says so.

    read_log("ratings.csv")  →   user   item   time        row
                                 "196"  "242"  881250949   0
                                 "186"  "302"  891717742   1

Ids are strings, since half of all catalogs have ids such as `007`. Columns are named by the caller or recognised by the
names that public data sets use. A log without a time column is in the order of its file; its frame has no `time`.
Nothing is filtered and nothing is numbered here: that is `prepare`.

A first line of numbers is no header; nor is one of which the caller says so. Four columns are then `user item rating time`,
others are named by the caller: `column_1`, `column_2`, …. *Sequences* are read as well: one line per user, `user item item
item …`, oldest first (a `.txt` file of whole numbers between spaces is taken for one).
"""

from pathlib import Path

import polars as pl

from ossia.data.columns import ITEM_NAMES, TIME_NAMES, USER_NAMES, find_column, how_many, needed_column, read_ids
from ossia.data.sequences import is_sequences, read_sequences
from ossia.data.tables import FORMATS, Table, open_table
from ossia.data.times import parse_times
from ossia.errors import DataError, UsageError

LOG_FORMATS = (*FORMATS, "sequences")
HEADLESS = {"user": "column_1", "item": "column_2", "time": "column_4"}
"""What four columns without names are taken for; the third is the rating."""


def read_log(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002 - the word that people look for
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    header: bool | None = None,
) -> pl.DataFrame:
    """Read a log of interactions.

    Args:
        path: CSV, TSV, RecBole `.inter` or sequences, plain or gzipped; or Parquet.
        format: one of `LOG_FORMATS`; `auto` looks at the content.
        user: the user column; None: recognised.
        item: the item column; None: recognised.
        time: the time column; None: recognised, and a log without one is in the order of its file.
        header: whether the first line names the columns; None: yes, unless it is all numbers. Without a header, columns are
            `column_1`, `column_2`, …, and exactly four are user, item, rating and time.

    Returns:
        columns `user` and `item` (String), `time` (Int64 or Float64; missing if the log has none), `row` (Int64, the order
        in the file, from 0).

    Raises:
        UsageError: there is no such format, or one column is asked to be two things.
        DataError: the file can't be used; names file, line and column.
    """
    path, wanted = Path(path), {"user": user, "item": item, "time": time}
    if format not in LOG_FORMATS:
        raise UsageError(f"format: expected one of {', '.join(LOG_FORMATS)}, got {format!r}")
    columnar = header is not None or any(wanted.values())
    if format == "sequences" or (format == "auto" and not columnar and is_sequences(path)):
        return read_sequences(path, sure=format == "sequences")
    table = open_table(path, format, header=header)
    columns = _columns(table, wanted)
    frame = table.select(tuple(columns.values()))
    log = {role: read_ids(table, frame, columns[role]) for role in ("user", "item")}
    if "time" in columns:
        log["time"] = _read_times(table, frame, columns["time"])
    return pl.DataFrame(log).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))


def _columns(table: Table, wanted: dict[str, str | None]) -> dict[str, str]:
    """Decide which column is user, item and, if there is one, time."""
    if not table.has_header and len(table.names) == 4:
        wanted = {role: name or HEADLESS[role] for role, name in wanted.items()}
    columns = {
        "user": needed_column(table, "user", USER_NAMES, wanted["user"]),
        "item": needed_column(table, "item", ITEM_NAMES, wanted["item"]),
    }
    time = find_column(table, "time", TIME_NAMES, wanted["time"])
    columns |= {} if time is None else {"time": time}
    if len(set(columns.values())) < len(columns):
        raise UsageError(f"{table.path}: expected different columns for user, item and time, got {columns}")
    return columns


def _read_times(table: Table, frame: pl.DataFrame, column: str) -> pl.Series:
    """Read the time column."""
    times = parse_times(frame[column])
    bad = times.is_null().arg_true()
    if len(bad):
        value = frame[column][bad[0]]
        got = "nothing" if value is None else repr(value)
        what = f"expected a number or an ISO date, got {got} ({how_many(len(bad))})"
        raise DataError(f"{table.place(bad[0])}: {column}: {what}")
    return times
