"""Which column is what: named by the caller, or recognized by the names that public data sets use.

Names are compared without case, `_`, `-`, `.` and spaces, so that `reviewerID`, `reviewer_id` and `Reviewer Id` are one.
If several columns are recognized, the earlier name in the list wins: the lists are sorted from particular to vague.
"""

import polars as pl

from ossia.data.tables import Table
from ossia.errors import DataError

USER_NAMES = ("userid", "user", "uid", "reviewerid", "customerid", "memberid", "visitorid", "accountid", "sessionid")
ITEM_NAMES = (
    *("itemid", "item", "iid", "movieid", "asin", "parentasin", "productid", "businessid", "bookid", "songid", "trackid"),
    *("articleid", "gameid", "newsid", "videoid", "poiid", "sku"),
)
TIME_NAMES = ("timestamp", "time", "unixreviewtime", "unixtime", "datetime", "date", "ts", "eventtime", "createdat")
VALUE_NAMES = ("rating", "ratings", "stars", "overall", "score", "reviewscore", "value", "weight", "playcount", "plays")


def find_column(table: Table, role: str, names: tuple[str, ...], wanted: str | None) -> str | None:
    """Find the column that plays a role.

    Args:
        table: where to look.
        role: what the column is for, to say in the message.
        names: what it may be called, best first, in small letters only.
        wanted: what the caller says it is called; None: look for `names`.

    Returns:
        the column's name; None if none is recognized.

    Raises:
        DataError: the caller named a column that is not there; lists those that are.
    """
    if wanted is not None and wanted not in table.names:
        raise DataError(f"{table.path}: expected a {role} column {wanted!r}, found columns {', '.join(table.names)}")
    if wanted is not None:
        return wanted
    plain = {_plain(name): name for name in reversed(table.names)}  # reversed: the first of two alike wins
    return next((plain[name] for name in names if name in plain), None)


def needed_column(table: Table, role: str, names: tuple[str, ...], wanted: str | None) -> str:
    """Find the column that plays a role, or say what was looked for.

    Args:
        table: where to look.
        role: what the column is for.
        names: as in `find_column`.
        wanted: as in `find_column`.

    Returns:
        the column's name.

    Raises:
        DataError: there is none; lists the columns that were found.
    """
    name = find_column(table, role, names, wanted)
    if name is None:
        known = ", ".join(names)
        found = ", ".join(table.names)
        raise DataError(f"{table.path}: expected a {role} column, named by the caller or one of {known}; found columns {found}")
    return name


def read_ids(table: Table, frame: pl.DataFrame, column: str) -> pl.Series:
    """Read a column of ids as strings.

    Args:
        table: where it came from, for messages.
        frame: the table's columns.
        column: one of them, of strings, whole numbers or categories.

    Returns:
        strings, none blank.

    Raises:
        DataError: a blank id (names the line), or values that can't be ids.
    """
    values = frame[column]
    if values.dtype.is_float():
        values = _whole(values)
    if not (values.dtype.is_integer() or values.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise DataError(f"{table.path}: {column}: expected ids that are strings or whole numbers, got {values.dtype}")
    texts = values.cast(pl.String)
    blank = (texts.is_null() | (texts.str.strip_chars() == "")).arg_true()
    if len(blank):
        raise DataError(f"{table.place(blank[0])}: {column}: expected an id, got nothing ({how_many(len(blank))})")
    return texts


def how_many(rows: int) -> str:
    """Count rows in words.

    Args:
        rows: how many.

    Returns:
        such as `1 such row`.
    """
    return f"{rows:,} such {'row' if rows == 1 else 'rows'}"


def _whole(values: pl.Series) -> pl.Series:
    """Undo what a gap does to a column of whole numbers on its way through pandas: 7 became 7.0."""
    known = values.fill_nan(None)
    whole = known.cast(pl.Int64, strict=False)
    return whole if (whole.cast(pl.Float64) == known).all() else values


def _plain(name: str) -> str:
    """Reduce `reviewerID`, `reviewer_id` and `Reviewer Id` to one."""
    return "".join(character for character in name.lower() if character not in "_- .")
